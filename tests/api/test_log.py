"""Fault D16, the client's side: what httpx writes about requests."""

import logging

import httpx
import pytest

import cdpbridge.api  # noqa: F401  # from then on


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "http://127.0.0.1:8700/files/a.txt?expires=9&signature=s3cret-0",
            "http://127.0.0.1:8700/files/a.txt?...",
        ),
        (
            "https://s3.example/a?X-Amz-Credential=s3cret-1&X-Amz-Signature=s3cret-2",
            "https://s3.example/a?...",
        ),
        ("https://api.example/browsers?pageSize=2", "https://api.example/browsers?pageSize=2"),
        ("https://api.example/browsers", "https://api.example/browsers"),
    ],
)
def test_fault_d16_presigned_addresses_are_not_in_the_log(caplog, url, shown):
    caplog.set_level(logging.DEBUG)
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
        assert str(client.get(url).request.url) == url
    assert shown in caplog.text
    assert "s3cret" not in caplog.text
