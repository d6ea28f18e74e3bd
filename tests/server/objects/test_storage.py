"""Object storage: objects whole or not there, in a folder and in S3."""

import asyncio
import io
import os
import socket
import threading
import time
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.objects import (
    ObjectMissing,
    ObjectStorage,
    ObjectStorageError,
    check_storage_url,
    object_segment,
    segment_text,
)
from tests.cases import cases

PART = 8 * 1024**2


def names(storage, prefix="files"):
    return sorted(found.name for found in storage.listing(prefix))


async def read(storage, name, start, end):
    return b"".join([piece async for piece in storage.chunks(name, start, end)])


async def test_an_object_is_written_listed_read_and_removed(storage):
    data = os.urandom(1000) * 2100
    with storage.writing("files/a/one.bin") as sink:
        for at in range(0, len(data), 1_000_000):
            sink.write(data[at : at + 1_000_000])
    storage.put_file("files/a b/ü.txt", io.BytesIO(b"two"), media_type="text/plain")
    assert names(storage) == ["files/a b/ü.txt", "files/a/one.bin"]
    assert names(storage, "files/a") == ["files/a/one.bin"]
    found = storage.find("files/a/one.bin")
    assert found.size == len(data)
    assert abs(found.modified - time.time()) < 60
    assert await read(storage, "files/a/one.bin", 0, len(data)) == data
    assert await read(storage, "files/a/one.bin", 5, 9) == data[5:9]
    with storage.reading("files/a/one.bin") as source:
        assert bytes(source.read(7)) + bytes(source.read()) == data
    storage.delete(["files/a/one.bin", "files/not there"])
    assert names(storage) == ["files/a b/ü.txt"]
    storage.delete_all("files")
    assert names(storage) == []


async def test_what_is_not_there_is_missing(storage):
    assert storage.find("files/none") is None
    with pytest.raises(ObjectMissing, match="files/none"), storage.reading("files/none") as source:
        source.read()
    with pytest.raises(ObjectMissing, match="files/none"):
        await read(storage, "files/none", 0, 1)
    storage.delete_all("files/none")


def test_an_upload_that_breaks_off_leaves_nothing(storage, s3, storage_place):
    """Neither an object nor parts of one, with one part sent already."""

    class Breaking(io.RawIOBase):
        at, size = 0, 3 * PART

        def readable(self):
            return True

        def seekable(self):
            return True

        def tell(self):
            return self.at

        def seek(self, offset, whence=0):
            self.at = offset + (0, self.at, self.size)[whence]
            return self.at

        def read(self, size=-1):
            if self.at >= 2 * PART:
                raise OSError("the disk is broken")
            self.at += size
            return bytes(size)

    with pytest.raises(OSError, match="the disk is broken"):
        storage.put_file("files/half", Breaking())
    with pytest.raises(RuntimeError, match="cut here"), storage.writing("files/half") as sink:
        sink.write(bytes(2 * PART))
        raise RuntimeError("cut here")
    assert names(storage) == []
    if storage_place.bucket is None:
        assert [path for path in storage_place.folder.rglob("*") if path.is_file()] == []
    else:
        assert s3.unfinished_uploads(storage_place.bucket) == 0


def test_a_presigned_address_opens_one_object(storage, storage_place):
    storage.put_file("files/shown.html", io.BytesIO(b"<script>"), media_type="text/html")
    address = storage.address("files/shown.html", method="GET", age=timedelta(minutes=5))
    if storage_place.bucket is None:
        assert address is None
        return
    with urlopen(address) as answer:
        assert answer.read() == b"<script>"
        assert answer.headers["Content-Disposition"] == "attachment"
    assert "s3cret" not in address


@pytest.mark.parametrize(
    "name",
    ["plain.txt", "ü (2).pdf", "50%.txt", "a#1", "a%23", "line\nbreak", "back\\slash", "\udcff\udcfe", "%"],
)
def test_every_name_of_a_file_is_a_name_of_an_object(storage, name):
    segment = object_segment(name)
    assert segment_text(segment) == name
    storage.put_file(f"files/{segment}", io.BytesIO(b"x"))
    assert names(storage) == [f"files/{segment}"]


def test_a_server_that_does_not_answer_is_named_at_the_start(s3):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    closed = ObjectStorage("s3://bucket", {**s3.options, "endpoint": f"http://127.0.0.1:{port}"})
    with pytest.raises(ConfigurationError, match=r"storage_url.*does not answer"):
        closed.check()
    with pytest.raises(ConfigurationError, match="does not answer") as caught:
        ObjectStorage("s3://no-such-bucket", s3.options).check()
    assert "NoSuchBucket" in str(caught.value)
    with pytest.raises(ConfigurationError, match="storage_options"):
        ObjectStorage("s3://bucket", {"no_such_option": "s3cret"})


def test_an_error_has_no_credentials_and_no_query(s3):
    storage = ObjectStorage("s3://no-such-bucket", s3.options)
    with pytest.raises(ObjectStorageError) as caught:
        list(storage.listing("files"))
    assert "s3cret" not in str(caught.value)
    assert "?..." in str(caught.value)
    assert "\n" not in str(caught.value)


@cases(
    ("url", "why"),
    [
        ("ftp://host/x", "write file:"),
        ("/folder", "write file:"),
        ("file://folder", "three slashes"),
        ("file:///", "three slashes"),
        ("file:///a/../b", r"\.\."),
        ("s3:///prefix", "name of the bucket"),
        ("s3://bucket?region=x", "storage_options"),
        ("s3://key:s3cret@bucket", "storage_options"),
    ],
)
def test_a_wrong_address_is_refused(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_storage_url(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["file:///var/lib/a%20b", "s3://bucket", "s3://bucket/a/b", "gs://b/p", "az://container/p"]
)
def test_addresses(url):
    check_storage_url(url)


async def test_reading_does_not_hold_up_the_event_loop(storage):
    """While pieces come, other tasks run."""
    storage.put_file("files/big", io.BytesIO(bytes(3 * 1024**2)))
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    assert len(await read(storage, "files/big", 0, 3 * 1024**2)) == 3 * 1024**2
    turning.cancel()
    assert turns > 3
    assert threading.active_count() < 50


def test_a_missing_signature_is_refused(storage, storage_place, s3):
    """The address is what opens the object: a changed one does not."""
    if storage_place.bucket is None:
        pytest.skip("a folder signs nothing")
    storage.put_file("files/one", io.BytesIO(b"1"))
    address = storage.address("files/one", method="GET", age=timedelta(seconds=1))
    with pytest.raises(HTTPError):
        urlopen(address.replace("files/one", "files/two"))
