"""Archives that arrive in pieces of any size: archives of Python's tarfile, and malformed archives."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.remote.tarstream import Kind, Member, TarError, TarReader

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


def written(members: list[tuple[tarfile.TarInfo, bytes]], format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read(data: bytes, cuts: list[int] | None = None) -> list[tuple[Member, bytes]]:
    reader = TarReader()
    found: list[tuple[Member, bytes]] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    open_member = False
    for begin, end in itertools.pairwise(edges):
        for event in reader.feed(data[begin:end]):
            if isinstance(event, Member):
                assert not open_member
                open_member = True
                found.append((event, b""))
            elif event is None:
                assert len(found[-1][1]) == found[-1][0].size
                open_member = False
            else:
                found[-1] = found[-1][0], found[-1][1] + bytes(event)
    assert reader.ended
    return found


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=2000), st.integers(0, 0o7777), st.integers(0, 2**33)), max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(st.integers(0, 20000), max_size=6),
)
def test_archives_of_tarfile_are_read_in_any_pieces(
    files: list[tuple[str, bytes, int, int]], format: int, cuts: list[int]
) -> None:
    members = []
    for name, content, mode, mtime in files:
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = mode, mtime
        members.append((info, content))
    found = read(written(members, format), cuts)
    assert [(member.path.rstrip("/"), member.mode, member.mtime, content) for member, content in found] == [
        (name.rstrip("/"), mode, mtime * 1_000_000_000, content) for name, content, mode, mtime in files
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_kinds_of_members(format: int) -> None:
    kinds = {
        tarfile.REGTYPE: Kind.FILE,
        tarfile.DIRTYPE: Kind.DIRECTORY,
        tarfile.SYMTYPE: Kind.SYMLINK,
        tarfile.LNKTYPE: Kind.LINK,
        tarfile.FIFOTYPE: Kind.OTHER,
        tarfile.CHRTYPE: Kind.OTHER,
        tarfile.BLKTYPE: Kind.OTHER,
    }
    members = []
    for index, kind in enumerate(kinds):
        info = tarfile.TarInfo(f"m{index}")
        info.type, info.linkname = kind, "m0" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        members.append((info, b""))
    found = read(written(members, format))
    assert [member.kind for member, _ in found] == list(kinds.values())
    assert [member.link for member, _ in found][2:4] == ["m0", "m0"]


def test_a_size_too_large_for_octal_digits() -> None:
    info = tarfile.TarInfo("large")
    info.size = 20 << 30
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = info.tobuf(format)
        member = next(event for event in TarReader().feed(header) if event is not None)
        assert isinstance(member, Member) and member.size == 20 << 30


def test_times_of_pax_have_fractions() -> None:
    info = tarfile.TarInfo("f")
    info.mtime = 1.25
    assert read(written([(info, b"")], tarfile.PAX_FORMAT))[0][0].mtime == 1_250_000_000


@pytest.mark.parametrize("mtime", ["9999999999999999999", "253402300800", "9999999999999999999.999999999"])
def test_times_that_no_disk_can_store_become_the_latest_time(mtime: str) -> None:
    info = tarfile.TarInfo("f")
    info.pax_headers = {"mtime": mtime}
    assert read(written([(info, b"")], tarfile.PAX_FORMAT))[0][0].mtime == 253_402_300_799_000_000_000
    info = tarfile.TarInfo("f")
    # tarfile writes this time in base 256.
    info.mtime = int(float(mtime))
    assert read(written([(info, b"")], tarfile.GNU_FORMAT))[0][0].mtime == 253_402_300_799_000_000_000


def oversized(kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 30
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 512,
        b"HTTP/1.1 200 OK\r\n".ljust(512),
        oversized(tarfile.GNUTYPE_LONGNAME),
        oversized(tarfile.GNUTYPE_LONGLINK),
        oversized(tarfile.XHDTYPE),
        oversized(tarfile.XGLTYPE),
    ],
)
def test_archives_that_are_refused(data: bytes) -> None:
    with pytest.raises(TarError):
        list(TarReader().feed(data))


@given(st.binary(max_size=1500), st.integers(0, 3000), st.integers(0, 3000))
def test_any_bytes_are_read_or_raise_tar_error(noise: bytes, at: int, cut: int) -> None:
    info = tarfile.TarInfo("n" * 150)
    whole = written([(info, b"content" * 50)], tarfile.PAX_FORMAT)
    data = whole[:at] + noise + whole[at + len(noise) :]
    reader = TarReader()
    with contextlib.suppress(TarError):
        for piece in (data[:cut], data[cut:]):
            list(reader.feed(piece))
    assert len(reader._buffer) <= 1 << 21
