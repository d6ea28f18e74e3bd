"""Signatures without a server: the two kinds never pass for each other, and any change breaks them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cdpbridge.server.files import BadSignature, Grant, UrlSigner

SIGNER = UrlSigner(b"k" * 32)
GRANT = Grant("browsers/1/uploads/a.txt", "text/plain", 3, 100)


def test_what_was_signed_is_valid_until_it_expires():
    query = SIGNER.download_query("tasks/1/a.png", 100)
    SIGNER.check_download("tasks/1/a.png", **query, now=100)
    with pytest.raises(BadSignature):
        SIGNER.check_download("tasks/1/a.png", **query, now=100.5)
    fields = SIGNER.upload_fields(GRANT)
    assert SIGNER.check_upload(fields, now=100) == GRANT
    with pytest.raises(BadSignature, match="expired"):
        SIGNER.check_upload(fields, now=100.5)


@settings(max_examples=50)
@given(st.text(), st.text(), st.text())
def test_nothing_else_is_valid(path, expires, signature):
    with pytest.raises(BadSignature):
        SIGNER.check_download(path, expires, signature, now=0)
    with pytest.raises(BadSignature):
        SIGNER.check_upload({"policy": path, "signature": signature, "key": expires}, now=0)


def test_another_key_signs_otherwise():
    query = UrlSigner(b"j" * 32).download_query("a", 100)
    with pytest.raises(BadSignature):
        SIGNER.check_download("a", **query, now=0)
    with pytest.raises(BadSignature):
        SIGNER.check_upload(UrlSigner(b"j" * 32).upload_fields(GRANT), now=0)
    assert "k" * 32 not in repr(SIGNER)
    with pytest.raises(ValueError, match="32 bytes"):
        UrlSigner(b"short")


def test_a_download_is_no_upload():
    query = SIGNER.download_query("x", 100)
    policy = SIGNER.upload_fields(GRANT)["policy"]
    with pytest.raises(BadSignature):
        SIGNER.check_upload({"policy": policy, "signature": query["signature"]}, now=0)
