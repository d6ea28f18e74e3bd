"""Archives of profiles: the same folder out as in, and nothing taken that `pack` does not write."""

import io
import os
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from cdpbridge.server.profiles import Hostile
from cdpbridge.server.profiles._archive import pack, unpack
from cdpbridge.server.profiles._copy import Budget, TooBig


def budget(*, bytes_left=10_000_000, files_left=1000, depth=64, seconds=60.0):
    return Budget(bytes_left, files_left, depth, time.monotonic() + seconds)


def compressed(plain, **options):
    return zstandard.ZstdCompressor(**options).compress(plain)


def archive(*members, form=tarfile.GNU_FORMAT):
    """An archive as an attacker may write it: each member is a header and the bytes of its file."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as file:
        for header, data in members:
            header.size = len(data) if header.isreg() else header.size
            file.addfile(header, io.BytesIO(data))
    return compressed(sink.getvalue())


def entry(name, kind=tarfile.REGTYPE, data=b"x", **more):
    header = tarfile.TarInfo(name)
    header.type = kind
    for key, value in more.items():
        setattr(header, key, value)
    return header, data if kind == tarfile.REGTYPE else b""


FOLDER = entry("user-data", tarfile.DIRTYPE)


def unpacked(data, target, **limits):
    target.mkdir()
    unpack(io.BytesIO(data), target, budget(**limits))


def everything(folder):
    """Every path below a folder: kind, mode and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_the_same_folder_comes_out(tmp_path):
    source = tmp_path / "source"
    for name in ("user-data/Default/Network/Cookies", "user-data/Local State", "cookies.json"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(3000))
    (source / "user-data/empty").mkdir()
    (source / "user-data" / ("long-" * 40)).write_text("a name longer than a header has space for")
    (source / "user-data" / "\udcff").write_bytes(b"")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    sink = io.BytesIO()
    pack(source, sink, budget())
    unpacked(sink.getvalue(), tmp_path / "target")
    assert everything(tmp_path / "target") == everything(source)
    again = io.BytesIO()
    pack(source, again, budget())
    assert again.getvalue() == sink.getvalue()


HOSTILE = {
    "link": ([FOLDER, entry("user-data/x", tarfile.SYMTYPE, linkname="/etc/passwd")], "a link"),
    "link out of it": ([entry("user-data", tarfile.SYMTYPE, linkname="..")], "a link"),
    "hard link": ([FOLDER, entry("user-data/x", tarfile.LNKTYPE, linkname="../../secret")], "a hard link"),
    "device": ([FOLDER, entry("user-data/x", tarfile.CHRTYPE, devmajor=1, devminor=3)], "a device"),
    "block device": ([FOLDER, entry("user-data/x", tarfile.BLKTYPE)], "a device"),
    "pipe": ([FOLDER, entry("user-data/x", tarfile.FIFOTYPE)], "a pipe"),
    "sparse file": ([FOLDER, entry("user-data/x", tarfile.GNUTYPE_SPARSE)], "a sparse file"),
    "absolute": ([entry("/cdpbridge-hostile")], "absolute name"),
    "upwards": ([entry("../x")], "leads out of it"),
    "upwards in the middle": ([FOLDER, entry("user-data/../../x")], "leads out of it"),
    "no name": ([FOLDER, entry("user-data//x")], "a name that is none"),
    "dot": ([FOLDER, entry("user-data/./x")], "a name that is none"),
    "twice": ([FOLDER, entry("user-data/x"), entry("user-data/x")], "a name twice"),
    "file over folder": ([FOLDER, entry("user-data")], "a name twice"),
    "no folder": ([entry("user-data/deep/x")], "in a folder that it does not have"),
    "file as folder": ([FOLDER, entry("user-data/x"), entry("user-data/x/y")], "does not have"),
    "name too long": ([FOLDER, entry("user-data/" + "x" * 256)], "too long"),
    "path too long": ([entry("x" * 5000)], "too long"),
    "unknown type": ([FOLDER, entry("user-data/x", b"Z")], "of type b'Z'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_fault_b32_a_hostile_archive_is_refused(case, tmp_path):
    members, why = HOSTILE[case]
    (tmp_path / "secret").write_text("kept")
    with pytest.raises(Hostile, match=why):
        unpacked(archive(*members), tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "target"}
    assert (tmp_path / "secret").read_text() == "kept"
    assert not [path for path in (tmp_path / "target").rglob("*") if path.is_symlink()]
    assert not Path("/cdpbridge-hostile").exists()


def test_fault_b32_headers_of_other_forms_are_refused(tmp_path):
    """pax headers may have a path, a size and a map of holes of their own."""
    header, data = entry("user-data/x")
    header.pax_headers = {"path": "../../out", "GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(Hostile, match="of type b'x'"):
        unpacked(archive(FOLDER, (header, data), form=tarfile.PAX_FORMAT), tmp_path / "target")


def test_fault_b32_headers_in_headers_are_refused(tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 10
    block = header.tobuf(tarfile.GNU_FORMAT) + b"user-data\0".ljust(512, b"\0")
    with pytest.raises(Hostile, match="headers"):
        unpacked(compressed(block * 5000), tmp_path / "target", files_left=100_000)


@pytest.mark.parametrize("size", [10**6, 8 * 10**9])
def test_fault_b32_a_name_of_gigabytes_is_not_read(size, tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    with pytest.raises(Hostile, match="too long"):
        unpacked(compressed(header.tobuf(tarfile.GNU_FORMAT) + bytes(10**6)), tmp_path / "target")


def test_fault_b32_bombs(tmp_path):
    """Bytes, names and depth are counted before they take anything."""
    gigabyte = zstandard.ZstdCompressor().compressobj()
    header, _ = entry("user-data/x")
    header.size = 10**9
    head = archive(FOLDER)
    start = zstandard.ZstdDecompressor().decompress(head)[:512] + header.tobuf(tarfile.GNU_FORMAT)
    bomb = gigabyte.compress(start)
    for _ in range(100):
        bomb += gigabyte.compress(bytes(10**6))
    bomb += gigabyte.flush()
    assert len(bomb) < 20_000
    with pytest.raises(TooBig, match="too many bytes"):
        unpacked(bomb, tmp_path / "announced")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0
    # The files are small, and zeros without end follow.
    with pytest.raises(TooBig, match="too many bytes"):
        unpacked(archive(FOLDER) + compressed(bytes(50_000_000)), tmp_path / "behind", files_left=10)
    with pytest.raises(TooBig, match="too many files"):
        unpacked(
            archive(FOLDER, *(entry(f"user-data/{n}") for n in range(20))), tmp_path / "names", files_left=9
        )
    deep = [entry("/".join(["d"] * depth), tarfile.DIRTYPE) for depth in range(1, 12)]
    with pytest.raises(TooBig, match="folders inside each other"):
        unpacked(archive(*deep), tmp_path / "deep", depth=10)
    with pytest.raises(TooBig, match="too long"):
        unpacked(archive(FOLDER), tmp_path / "slow", seconds=-1)


def test_fault_b32_memory_is_bounded(tmp_path):
    """An archive may ask for a window of 2 GiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = wide.compress(bytes(2_000_000)) + wide.flush()
    with pytest.raises(Hostile, match=r"not compressed by Zstandard|memory"):
        unpacked(data, tmp_path / "target")


def test_a_part_of_an_archive_is_refused(tmp_path):
    whole = archive(FOLDER, entry("user-data/x", data=os.urandom(100_000)), entry("user-data/y", data=b"y"))
    plain = zstandard.ZstdDecompressor().decompress(whole, max_output_size=1_000_000)
    for number, cut in enumerate((0, 10, 1000, len(whole) // 2, len(whole) - 40)):
        with pytest.raises(Hostile, match=r"damaged|not whole"):
            unpacked(whole[:cut], tmp_path / f"target-{number}")
    # Cut between two files, where tar itself sees no fault.
    with pytest.raises(Hostile, match="not whole"):
        unpacked(compressed(plain[: 512 + 512 + 100_352]), tmp_path / "between")
    with pytest.raises(Hostile, match=r"not compressed|damaged"):
        unpacked(b"PK\3\4 something else", tmp_path / "else")
    flipped = bytearray(compressed(plain, write_checksum=True))
    flipped[len(whole) // 2] ^= 1
    with pytest.raises(Hostile, match="damaged"):
        unpacked(bytes(flipped), tmp_path / "flipped")
