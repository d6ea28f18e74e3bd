import random

import pytest

from cdpbridge.server.proxy._answer import Answer, AnswerReader
from tests.cases import cases
from tests.server.proxy.test_like_chromium import random_answer


def read(pieces, method=b"GET"):
    reader = AnswerReader(method)
    answers, raw, payload = [], b"", b""
    for piece in [*pieces, b""]:
        found = [] if reader.complete else reader.feed(piece)
        if found and isinstance(found[-1], Answer) and found[-1].status == 101:
            found += reader.pass_rest()
        answers += [each for each in found if isinstance(each, Answer)]
        bodies = [each for each in found if not isinstance(each, Answer)]
        raw += b"".join(each.raw for each in bodies)
        payload += b"".join(each.payload for each in bodies)
    return reader, answers, raw, payload


def test_bytes_one_by_one_say_the_same_as_all_at_once():
    dice = random.Random(17)
    for _ in range(2000):
        answer = b"".join(random_answer(dice))
        whole, answers, raw, payload = read([answer] if answer else [])
        single, *others, counted = read([answer[at : at + 1] for at in range(len(answer))])
        assert [answers, raw] == others
        # Where Chromium stops with an error, the rest counts as it came.
        assert payload == counted or whole.passing
        assert (whole.complete, whole.regular, whole.passing) == (
            single.complete,
            single.regular,
            single.passing,
        )


@cases(
    ("answer", "framing", "payload"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "length", b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nX: y\r\n\r\n",
            "chunked",
            b"ok",
        ),
        (b"HTTP/1.1 204 \r\n\r\n", "none", b""),
        (b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", "none", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "close", b"until the end"),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "length", b"ok"),
    ],
)
def test_regular_answers(answer, framing, payload):
    reader, answers, _, body = read([answer])
    assert (answers[-1].framing, body) == (framing, payload)
    assert (reader.complete, reader.regular, reader.passing) == (True, True, False)


@cases(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
def test_where_readers_could_disagree_the_connection_is_not_used_again(answer):
    reader, answers, _, _ = read([answer])
    assert not (reader.complete and reader.regular)
    assert not any(each.keep_alive and not each.regular for each in answers)


@pytest.mark.parametrize(("method", "left"), [(b"HEAD", b"ok"), (b"CONNECT", b"ok"), (b"GET", b"")])
def test_answers_to_head_and_connect_have_no_body(method, left):
    reader, _, raw, _ = read([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], method)
    assert (reader.left, raw) == (left, b"ok"[len(left) :])


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n", b"hi", b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n"]
)
def test_what_is_no_answer_passes_as_it_came(data):
    reader, answers, raw, _ = read([data])
    assert (reader.passing, answers, raw) == (True, [], data)


def test_a_head_without_end_does_not_fill_the_memory():
    reader = AnswerReader(b"GET")
    passed = 0
    for _ in range(32):
        passed += sum(len(each.raw) for each in reader.feed(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 16384))
        assert len(reader.left) <= 256 * 1024
    assert passed > 256 * 1024
