"""Proofs of the secret: of connections, and of registrations."""

import os

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.workers._auth import (
    ADMISSION_BYTES,
    MAX_HELLO_BYTES,
    OPENING_HEAD_BYTES,
    Status,
    admission,
    greeting,
    hello_bytes,
    open_with,
    opens,
    status_of,
)
from cdpbridge.server.workers._dial import host_and_port
from cdpbridge.server.workers._register import challenge, proof_of, proves

SECRET, OTHER = b"s" * 40, b"o" * 40


def parts(opening):
    return opening.data[:OPENING_HEAD_BYTES], opening.data[OPENING_HEAD_BYTES:]


def test_both_ends_know_the_secret():
    greeted = greeting()
    opening = open_with(SECRET, greeted, b'{"for":"control"}')
    head, rest = parts(opening)
    assert hello_bytes(head) == len(rest)
    assert opens(SECRET, greeted, head, rest) == b'{"for":"control"}'
    assert SECRET not in opening.data
    for status in Status:
        answer = admission(SECRET, greeted + head + rest, status)
        assert len(answer) == ADMISSION_BYTES
        assert status_of(SECRET, opening.key, answer) is status


def test_what_is_not_of_one_with_the_secret_is_refused():
    greeted = greeting()
    opening = open_with(OTHER, greeted, b"{}")
    head, rest = parts(opening)
    assert opens(SECRET, greeted, head, rest) is None
    head, rest = parts(open_with(SECRET, greeted, b"{}"))
    # Said again on another connection, or changed on its way.
    assert opens(SECRET, greeting(), head, rest) is None
    assert opens(SECRET, greeted, head, b"[]" + rest[2:]) is None
    good = open_with(SECRET, greeted, b"{}")
    answer = admission(SECRET, good.key, Status.OTHER_WORKER)
    assert status_of(OTHER, good.key, answer) is None
    assert status_of(SECRET, good.key, answer[:-1] + b"\0") is None
    assert status_of(SECRET, good.key, admission(SECRET, good.key, 200)) is Status.UNKNOWN
    assert open_with(SECRET, b"SSH-2.0-OpenSSH", b"{}") is None
    assert hello_bytes(b"CBS\x02" + bytes(34)) is None
    assert hello_bytes(b"CBS\x01" + bytes(32) + (MAX_HELLO_BYTES + 1).to_bytes(2, "big")) is None


def test_a_registration_is_proved_for_ten_minutes_and_one_body():
    asked = challenge(SECRET, wall=1000)
    proof = proof_of(SECRET, asked, b"body")
    assert proves(SECRET, proof, b"body", wall=1600)
    assert not proves(SECRET, proof, b"body", wall=1601)
    assert not proves(SECRET, proof, b"other", wall=1000)
    assert not proves(OTHER, proof, b"body", wall=1000)
    assert not proves(SECRET, proof_of(SECRET, challenge(OTHER, wall=1000), b"body"), b"body", wall=1000)
    for junk in ("", ".", "....", os.urandom(20).hex(), "é.é.é", f"{asked}."):
        assert not proves(SECRET, junk, b"body", wall=1000)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:99999", "a@b:1", "host:1/x", "::1:5", "[::1]"]
)
def test_what_is_no_address_of_a_worker(address):
    with pytest.raises(ConfigurationError, match="host:port"):
        host_and_port(address)


def test_addresses_of_workers():
    assert host_and_port("10.0.0.5:8710") == ("10.0.0.5", 8710)
    assert host_and_port("[2001:db8::5]:1") == ("2001:db8::5", 1)
    assert host_and_port("worker-1.example:0") == ("worker-1.example", 0)
