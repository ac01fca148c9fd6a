"""Zips that come: hostile names, bombs and damage; and the one that goes out."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from cameo.errors import PhotoError, PhotoTooLarge, RequestError
from cameo.jobs.archive import check_name, is_zip, members_of, photo_in, zipped
from cameo.jobs.job import JobOptions
from cameo.memory.amounts import MIB
from tests.cameo.jobs.fake import packed, write

LIMITS = JobOptions(Path(), max_photos=10, max_photo_mib=1)
MOST = MIB  # bytes of a photo


def names(tmp_path: Path, content: bytes) -> list[str]:
    return members_of(write(tmp_path / "0", content), "a.zip", LIMITS)[0]


def test_photos_are_found_and_what_is_hidden_or_no_photo_is_not(tmp_path: Path) -> None:
    files = ("b.jpg", "sub/a.PNG", "notes.txt", ".b.jpg", "__MACOSX/sub/._a.PNG", ".git/c.png", "inner.zip")
    path = write(tmp_path / "0", packed({**dict.fromkeys(files, b"x"), "sub/": b"", "é\u202f1.jpg": b"content"}))
    assert is_zip(path)
    assert members_of(path, "a.zip", LIMITS) == (
        ["b.jpg", "sub/a.PNG", "é\u202f1.jpg"],
        ["notes.txt", "inner.zip"],
    )
    assert photo_in(path, "é\u202f1.jpg", LIMITS) == b"content"


@pytest.mark.parametrize("content", [b"", b"PK", b"\xff\xd8\xff a photo " + packed({"a.jpg": b"x"})])
def test_what_does_not_begin_as_a_zip_is_none(tmp_path: Path, content: bytes) -> None:
    assert not is_zip(write(tmp_path / "0", content))


ELSEWHERE = (
    "../a.jpg",
    "a/../../b.jpg",
    "/etc/a.jpg",
    "//a.jpg",
    "a//b.jpg",
    "./a.jpg",
    "..\\a.jpg",
    "C:a.jpg",
    "a/..",
)
NO_NAMES = ("a\n.jpg", "a\x7f.jpg", "\ud800.jpg", 'a".jpg', "", "a/" * 40 + "a.jpg", "ä" * 200 + ".jpg")


@pytest.mark.parametrize("name", [*ELSEWHERE, *NO_NAMES])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="is no photo's below a folder, expected such as a/b.jpg: rename it"):
        check_name(name)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/..//../notes.txt", "..\\..\\a.jpg"])
def test_a_zip_with_one_such_name_is_refused_whole(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is no photo's below a folder"):
        names(tmp_path, packed({"good.jpg": b"x", name: b"x"}))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_usual_compression_is_taken(tmp_path: Path, method: int) -> None:
    with pytest.raises(RequestError, match="is compressed by method .*, expected 0 or 8: pack it as usual"):
        names(tmp_path, packed({"a.jpg": b"x"}, method))


def test_encrypted_and_empty_zips_and_ones_without_photos_are_refused(tmp_path: Path) -> None:
    content = bytearray(packed({"a.jpg": b"x"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RequestError, match="'a.jpg' in a.zip is encrypted: pack it without a password"):
        names(tmp_path, bytes(content))
    for without in ({}, {"notes.txt": b"x"}):
        with pytest.raises(RequestError, match="a.zip holds no photos, expected files of"):
            names(tmp_path, packed(without))


def test_a_bomb_is_refused_by_its_directory_without_inflating_it(tmp_path: Path) -> None:
    bomb = packed({"a.jpg": bytes(200 * MIB)})
    assert len(bomb) < MIB
    path = write(tmp_path / "0", bomb)
    tracemalloc.start()
    with pytest.raises(PhotoTooLarge, match="'a.jpg' in a.zip has 200 MiB, expected at most 1: shrink it"):
        members_of(path, "a.zip", LIMITS)[0]
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_a_bomb_whose_directory_lies_inflates_to_what_it_says(tmp_path: Path) -> None:
    """It says 1000 bytes, at both places, and has 100 MiB."""
    bomb = packed({"a.jpg": bytes(100 * MIB)}).replace(struct.pack("<L", 100 * MIB), struct.pack("<L", 1000))
    path = write(tmp_path / "0", bomb)
    assert members_of(path, "a.zip", LIMITS)[0] == ["a.jpg"]
    tracemalloc.start()
    with pytest.raises(PhotoError, match="a.jpg is damaged in the zip .Bad CRC-32"):
        photo_in(path, "a.jpg", LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("zip64", [False, True])
def test_a_directory_of_a_million_files_is_refused_before_it_is_read(tmp_path: Path, zip64: bool) -> None:
    """Its end says how large it is, or a record of zip64 before that does."""
    entry = packed({"a.jpg": b""})
    entry = entry[entry.index(b"PK\x01\x02") : entry.index(b"PK\x05\x06")]
    size = len(entry) * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0 if zip64 else size, 0, 0)
    if zip64:
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, 0)
        end = record + struct.pack("<4sLQL", b"PK\x06\x07", 0, size, 1) + end
    path = write(tmp_path / "0", entry * 1_000_000 + end)
    tracemalloc.start()
    with pytest.raises(RequestError, match="a.zip is no zip that can be read .its directory has .* at most 10 photos"):
        members_of(path, "a.zip", LIMITS)[0]
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_damage_is_said_where_it_is(tmp_path: Path) -> None:
    whole = packed({"a.jpg": zlib.compress(bytes(range(256)) * 40), "b.jpg": b"good"})
    with pytest.raises(RequestError, match="a.zip is no zip that can be read .File is not a zip file"):
        names(tmp_path, whole[: len(whole) // 2])
    at = whole.index(b"a.jpg") + 20
    path = write(tmp_path / "1", whole[:at] + b"\x00\xff\x00\xff\x00" + whole[at + 5 :])
    assert members_of(path, "a.zip", LIMITS)[0] == ["a.jpg", "b.jpg"]
    with pytest.raises(PhotoError, match="a.jpg is damaged in the zip .* pack it again"):
        photo_in(path, "a.jpg", LIMITS)
    assert photo_in(path, "b.jpg", LIMITS) == b"good"


def test_random_damage_is_never_a_bug(tmp_path: Path) -> None:
    luck, whole = random.Random(0), packed({f"{n}.jpg": bytes([n]) * 500 for n in range(5)})
    for _ in range(500):
        broken = bytearray(whole)
        for _ in range(luck.randint(1, 8)):
            broken[luck.randrange(len(broken))] = luck.randrange(256)
        path = write(tmp_path / "0", bytes(broken))
        with suppress(RequestError, PhotoTooLarge):
            for name in members_of(path, "a.zip", LIMITS)[0]:
                with suppress(PhotoError):
                    photo_in(path, name, LIMITS)


def test_a_zip_goes_out_piece_by_piece(tmp_path: Path) -> None:
    large = write(tmp_path / "large", bytes(range(256)) * 8192)
    pieces = list(zipped([("table.csv", b"a,b\n"), ("sub/é.png", large)]))
    assert max(map(len, pieces)) < MOST
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "table.csv": b"a,b\n",
            "sub/é.png": large.read_bytes(),
        }
