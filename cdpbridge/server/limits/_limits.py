"""Every limit on what a peer may send, hold or try, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server. Tests shorten them.

    Attributes:
        head_bytes: Request line and headers of a request, and the trailers of a chunked body; 431 above.
        head_fields: Headers of a request; 431 above.
        head_seconds: From the first byte of a request, or from a new connection, to the end of its head.
        body_bytes: Body of a request; 413 above. Presigned uploads have the size that was signed.
        sign_in_bytes: Body of a sign-in to the console.
        stall_seconds: A body that does not bring `stall_bytes` in this time is answered with 408.
        stall_bytes: See `stall_seconds`.
        keep_alive_seconds: An idle connection is closed after this time.
        grace_seconds: When the server ends, how long answers on their way may take after the browsers have ended.
        unread_seconds: An answer of which the peer reads nothing is aborted after this time.
        linger_seconds: How long the rest of a refused request is discarded, so that the refusal can be read.
        linger_bytes: A request with a longer rest is the last of its connection.
        discard_bytes: More than this ends the connection at once.
        pipelined: Requests that wait behind another one on one connection; the next one ends the connection.
        held_bytes: What all waiting connections may hold in memory together; the oldest is dropped above.
        hello_bytes: What a viewer's WebSocket may receive before its credential was accepted.
        hello_seconds: How long a viewer's WebSocket may be without an accepted credential.
        viewer_bytes: A message of a viewer who may not drive.
        driver_bytes: A message of a viewer who may drive; it can hold a dropped file.
        key_failures: Wrong API keys of one peer before 429.
        key_seconds: After this time, one more wrong key is allowed.
        token_failures: Wrong tokens and signatures of one peer before 429; they cannot be guessed, having 128 bits and more.
        token_seconds: After this time, one more wrong token is allowed.
        peers: Peers whose failures are remembered.
    """

    head_bytes: int = 64 * _KIB
    head_fields: int = 200
    head_seconds: float = 15
    body_bytes: int = 1024 * _KIB
    sign_in_bytes: int = 4 * _KIB
    stall_seconds: float = 15
    stall_bytes: int = 8 * _KIB
    keep_alive_seconds: int = 5
    grace_seconds: int = 5
    unread_seconds: float = 30
    linger_seconds: float = 3
    linger_bytes: int = 64 * _KIB
    discard_bytes: int = 1024 * _KIB
    pipelined: int = 32
    held_bytes: int = 64 * 1024 * _KIB
    hello_bytes: int = 16 * _KIB
    hello_seconds: float = 10
    viewer_bytes: int = 64 * _KIB
    driver_bytes: int = 16 * 1024 * _KIB
    key_failures: int = 10
    key_seconds: float = 6
    token_failures: int = 60
    token_seconds: float = 1
    peers: int = 10_000
