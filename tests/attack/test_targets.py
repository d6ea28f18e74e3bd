"""What an attack's answer means."""

import pytest

from cdpbridge.attack._targets import (
    Answer,
    data_files,
    judge_private_host,
    judge_read,
    judge_service,
    loopback_hosts,
    profile_folder,
    url_host,
)
from tests.cases import cases


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([("file:", "net::ERR_FILE_NOT_FOUND", 0), ("input", "", 0)], "held"),
        ([("file:", "net::ERR_ACCESS_DENIED", 0), ("input", "", 12)], "through"),
        ([("file:", "net::ERR_ABORTED", 0)], "through"),  # Chromium began to download it
        ([("file:", "", 0)], "held"),
    ],
)
def test_a_file_was_read_in_one_of_several_ways(answers, outcome):
    assert judge_read(answers).outcome == outcome


@cases(
    ("answer", "outcome"),
    [
        (Answer("net::ERR_CONNECTION_REFUSED", ""), "held"),
        (Answer("", "127.0.0.1 is a private address, which this browser may not reach", 403), "held"),
        (Answer("", "127.0.0.1:8700 is a port of the server that runs this browser", 403), "held"),
        (Answer("", '{"status":"ok"}', 200), "through"),
        (Answer("", '{"detail":"Invalid API key"}', 401), "through"),
        (Answer("", "It works!", 200), "held"),
    ],
)
def test_a_port_of_the_server_has_answered_only_with_the_servers_own_words(answer, outcome):
    assert judge_service(answer, ('"status":"ok"', '{"detail"')).outcome == outcome


@cases(
    ("answer", "outcome"),
    [
        (None, "untried"),
        (Answer("net::ERR_CONNECTION_TIMED_OUT", ""), "untried"),
        (Answer("net::ERR_TUNNEL_CONNECTION_FAILED", ""), "untried"),
        (Answer("net::ERR_BLOCKED_BY_CLIENT", ""), "held"),
        (Answer("", "the server 10.0.0.1:80 did not answer within 30 s", 504), "untried"),
        (Answer("", "10.0.0.1 is a private address, which this browser may not reach", 403), "held"),
        (Answer("", "ami-id\nhostname", 200), "through"),
    ],
)
def test_silence_of_a_private_address_proves_nothing(answer, outcome):
    assert judge_private_host(answer).outcome == outcome


def test_the_profile_folder_is_in_the_command_line():
    assert profile_folder("/usr/bin/chromium --user-data-dir=/a/b/profile --x") == "/a/b/profile"
    assert profile_folder('chrome "--x" --user-data-dir="/a b/profile"') == "/a b/profile"
    assert profile_folder("chrome --x") is None


def test_hosts_and_files_that_the_operator_adds_come_once():
    hosts = loopback_hosts(["192.0.2.7", "2001:db8::7", "127.0.0.1"])
    assert hosts[-2:] == ["192.0.2.7", "[2001:db8::7]"]
    assert hosts.count("127.0.0.1") == 1
    assert url_host("[::1]") == "[::1]"
    assert data_files(["/srv/x/"])[:2] == ["/srv/x/", "/srv/x/signing.key"]
    assert data_files(["/srv/x/", "/srv/y"], "/srv/x/browsers/1/profile")[:2] == [
        "/srv/y",
        "/srv/x/signing.key",
    ]
