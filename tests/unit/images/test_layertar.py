"""The reader of layers' archives: formats, sparse files, and damaged archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.images.contents import BadImage
from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layerstream import LayerStream
from hatchway.images.layers.layertar import EntryKind, LayerEntry, LayerTar
from tests.images.making import compressed, tar_of
from tests.images.unpacking import file, unpack

LIMITS = UnpackLimits(size=1 << 30)


def _read(data: bytes, step: int = 1 << 20) -> Iterator[tuple[LayerEntry, bytes]]:
    source = io.BytesIO(data)
    tar = LayerTar(lambda: source.read(step), LIMITS)
    while (entry := tar.next_entry()) is not None:
        content = bytearray()
        while piece := tar.read_piece():
            content += piece
        yield entry, bytes(content)


def _archive(kind: int, **fields: object) -> bytes:
    header = tarfile.TarInfo("name")
    for field, value in fields.items():
        setattr(header, field, value)
    return header.tobuf(kind, "utf-8", "surrogateescape") + bytes(1024)


_LONG = "directory/" * 30 + "name"


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_large_numbers_in_both_extensions(kind: int) -> None:
    data = _archive(
        kind, name=_LONG, linkname="../" * 60, type=tarfile.SYMTYPE, uid=3_000_000, gid=2_200_000, mtime=1 << 34
    )
    ((entry, _),) = _read(data)
    assert (entry.name, entry.link) == (_LONG.encode(), b"../" * 60)
    assert (entry.uid, entry.gid) == (3_000_000, 2_200_000)
    assert entry.kind is EntryKind.SYMLINK
    assert entry.mtime == 9_000_000_000 * 10**9


def test_a_name_that_ustar_splits() -> None:
    name = "d" * 100 + "/" + "e" * 90
    ((entry, _),) = _read(_archive(tarfile.USTAR_FORMAT, name=name))
    assert entry.name == name.encode()


def test_times_of_pax_headers_have_nanoseconds_and_a_sign() -> None:
    for text, expected in (
        ("1.5", 1_500_000_000),
        ("-1.25", -1_250_000_000),
        ("7", 7_000_000_000),
        (".5", None),
        ("x", None),
    ):
        data = tar_of([file("a", pax={"mtime": text})])
        if expected is None:
            with pytest.raises(BadLayer):
                list(_read(data))
        else:
            assert [entry.mtime for entry, _ in _read(data)] == [expected]


def test_a_directory_in_the_oldest_tar_format() -> None:
    ((entry, _),) = _read(_archive(tarfile.USTAR_FORMAT, name="d/", type=tarfile.AREGTYPE))
    assert entry.kind is EntryKind.DIRECTORY


def test_an_archive_without_an_end() -> None:
    assert [entry.name for entry, _ in _read(tar_of([file("a"), file("b")])[:-1024])] == [b"a", b"b"]


def test_an_empty_archive() -> None:
    assert list(_read(b"")) == list(_read(bytes(10240))) == []


@given(st.lists(st.binary(max_size=1500), max_size=5), st.integers(1, 1100))
@settings(max_examples=40, deadline=None)
def test_the_entries_do_not_depend_on_the_sizes_of_the_pieces(contents: list[bytes], step: int) -> None:
    data = tar_of([file(_LONG + str(number), mtime=5) for number in range(len(contents))])
    assert [entry.name for entry, _ in _read(data, step)] == [entry.name for entry, _ in _read(data)]
    whole = b"".join(
        _archive(tarfile.PAX_FORMAT, name=f"é{number}", size=len(content))[:-1024]
        + content
        + bytes(-len(content) % 512)
        for number, content in enumerate(contents)
    )
    assert [content for _, content in _read(whole, step)] == contents


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_archives_raise_only_one_type_of_exception(data: st.DataObject) -> None:
    whole = bytearray(
        tar_of([file(_LONG, "x" * 600, pax={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}), file("b")])
        + _archive(tarfile.GNU_FORMAT, name=_LONG, uid=1 << 40)
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        # Correct the checksum, so that the damaged header is parsed.
        for at in range(0, len(whole), 512):
            block = whole[at : at + 512]
            block[148:156] = b" " * 8
            whole[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    try:
        list(_read(bytes(whole[: data.draw(st.integers(0, len(whole)))])))
    except BadLayer as error:
        assert str(error)


def _sparse_file(path: Path) -> bytes:
    with open(path, "wb") as out:
        for at in range(40):
            out.seek(at * 65536)
            out.write(b"%05d" % at * 100)
        out.truncate(3 << 20)
    return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [["--format=gnu"], *(["--format=pax", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))],
)
def test_sparse_files_in_all_formats_of_gnu_tar(tmp_path: Path, options: list[str]) -> None:
    content = _sparse_file(tmp_path / "sparse")
    made = subprocess.run(
        ["tar", "-c", "--sparse", "--hole-detection=raw", *options, "-f", "-", "-C", str(tmp_path), "sparse"],
        capture_output=True,
        check=True,
    )
    assert len(made.stdout) < 1 << 20
    unpack(tmp_path / "layer", made.stdout)
    assert (tmp_path / "layer/sparse").read_bytes() == content
    assert (tmp_path / "layer/sparse").stat().st_blocks * 512 < len(content)


def _stream(blob: bytes, content: bytes, limits: UnpackLimits = LIMITS) -> bytes:
    with LayerStream(io.BytesIO(blob), f"sha256:{hashlib.sha256(content).hexdigest()}", limits) as stream:
        found = b""
        while piece := stream.read():
            found += piece
        stream.verify()
        return found


_CONTENT = b"".join(b"%d\n" % number for number in range(200_000))


@pytest.mark.parametrize("form", ["gzip", "zstd", ""])
def test_compressions_are_recognized_by_the_first_bytes(form: str) -> None:
    assert _stream(compressed(_CONTENT, form), _CONTENT) == _CONTENT


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_several_gzip_members_or_zstd_frames_are_concatenated(form: str) -> None:
    parts = [_CONTENT[:7], b"", _CONTENT[7:900_000], _CONTENT[900_000:]]
    assert _stream(b"".join(compressed(part, form) for part in parts), _CONTENT) == _CONTENT


def test_skippable_frames_of_zstd_as_zstd_chunked_writes_them() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
    assert _stream(skipped + compressed(_CONTENT, "zstd") + skipped, _CONTENT) == _CONTENT


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_compressed_data_that_is_cut_off_or_damaged(form: str) -> None:
    blob = compressed(_CONTENT, form)
    with pytest.raises(BadLayer, match="cut off"):
        _stream(blob[:-10], _CONTENT)
    with pytest.raises(BadLayer, match="damaged"):
        _stream(blob + b"garbage, no member of gzip, no frame", _CONTENT)
    damaged = bytearray(blob)
    damaged[len(blob) // 2] ^= 0xFF
    with pytest.raises(BadLayer, match=r"damaged|has the digest|cut off"):
        _stream(bytes(damaged), _CONTENT)


def test_an_error_of_the_disk_is_raised_unchanged() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with LayerStream(Broken(), f"sha256:{'0' * 64}", LIMITS) as stream, pytest.raises(OSError, match="Input/output"):
        stream.read()


def test_an_unknown_digest_is_refused() -> None:
    with pytest.raises(BadImage, match="unknown kind"):
        LayerStream(io.BytesIO(), "md5:00", LIMITS)


def test_gzip_from_another_program_is_read(tmp_path: Path) -> None:
    """The header has a file name, and the compression level is the maximum."""
    (tmp_path / "layer.tar").write_bytes(_CONTENT)
    subprocess.run(["gzip", "-9", str(tmp_path / "layer.tar")], check=True)
    blob = (tmp_path / "layer.tar.gz").read_bytes()
    assert gzip.decompress(blob) == _stream(blob, _CONTENT)
