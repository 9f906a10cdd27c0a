"""Extraction of archives from hostile pods: nothing is written or linked outside of the destination."""

from __future__ import annotations

import io
import itertools
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.remote.extraction import Extraction, UnsafeMember, stays_inside
from hatchway.remote.tarstream import Kind, Member, TarError, TarReader


def file(path: str, mode: int = 0o644, mtime: int = 0, size: int = 0) -> Member:
    return Member(path, Kind.FILE, mode, mtime, size)


def directory(path: str, mode: int = 0o755, mtime: int = 0) -> Member:
    return Member(path, Kind.DIRECTORY, mode, mtime, 0)


def symlink(path: str, link: str) -> Member:
    return Member(path, Kind.SYMLINK, 0o777, 0, 0, link)


class Destination:
    def __init__(self, path: Path) -> None:
        self.path = path / "inside"
        self.path.mkdir()
        self.outside = path / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.warnings: list[str] = []
        self.extraction = Extraction(str(self.path), "copy", "src", self.warnings.append)

    def put(self, member: Member, content: bytes = b"") -> None:
        self.extraction.begin(member)
        self.extraction.write(memoryview(content))
        self.extraction.end()

    def untouched(self) -> bool:
        return (self.outside / "secret").read_text() == "secret" and [*self.outside.iterdir()] == [
            self.outside / "secret"
        ]


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Destination]:
    found = Destination(tmp_path)
    yield found
    found.extraction.close()


def test_modes_times_and_contents_are_kept(to: Destination) -> None:
    to.put(directory("src", 0o750, 5_000_000_001))
    to.put(file("src/run", 0o751, 1_234_567_890_123_456_789), b"#!")
    to.put(directory("src/locked", 0o500, 7_000_000_000))
    to.put(file("src/locked/x"), b"x")
    to.put(symlink("src/link", "locked/x"))
    to.extraction.finish()
    run = os.stat(to.path / "copy/run")
    assert (stat.S_IMODE(run.st_mode), run.st_mtime_ns) == (0o751, 1_234_567_890_123_456_789)
    assert os.stat(to.path / "copy").st_mtime_ns == 5_000_000_001
    assert stat.S_IMODE(os.stat(to.path / "copy/locked").st_mode) == 0o500
    assert (to.path / "copy/link").read_text() == "x"
    assert not to.warnings


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "src/../../x", "other/x", "", "src/" + "d/" * 600, "src/" + "n" * 256]
)
def test_a_path_outside_of_the_requested_directory_is_refused(to: Destination, path: str) -> None:
    with pytest.raises(UnsafeMember):
        to.extraction.begin(file(path))


@pytest.mark.parametrize("link", ["../../outside", "/etc", "..", "a/../../../outside", "", "l/..", "../.."])
def test_links_out_of_the_tree_are_not_made(to: Destination, link: str) -> None:
    to.put(directory("src"))
    to.put(symlink("src/l", link))
    assert not (to.path / "copy/l").is_symlink()
    assert len(to.warnings) == 1


def test_a_member_below_a_link_is_not_written_through_it(to: Destination) -> None:
    to.put(directory("src"))
    (to.path / "copy/d").symlink_to(to.outside)
    with pytest.raises(OSError):
        to.extraction.begin(file("src/d/secret"))
    to.put(directory("src/d"))
    to.put(file("src/d/secret"), b"changed")
    assert (to.path / "copy/d/secret").read_bytes() == b"changed"
    assert to.untouched()


def test_a_file_replaces_a_link_and_a_hard_link(to: Destination) -> None:
    to.put(directory("src"))
    (to.path / "copy/soft").symlink_to(to.outside / "secret")
    os.link(to.outside / "secret", to.path / "copy/hard")
    to.put(file("src/soft"), b"new")
    to.put(file("src/hard"), b"new")
    assert to.untouched()


def test_the_destination_itself_may_not_be_a_link(to: Destination) -> None:
    (to.path / "copy").symlink_to(to.outside)
    with pytest.raises(OSError):
        to.extraction.begin(file("src/secret"))
    assert to.untouched()


def test_hard_links_lead_to_copied_files_only(to: Destination) -> None:
    to.put(directory("src"))
    to.put(file("src/a"), b"a")
    (to.path / "copy/own").write_text("own")
    to.put(Member("src/b", Kind.LINK, 0o644, 0, 0, "src/a"))
    to.put(Member("src/c", Kind.LINK, 0o644, 0, 0, "src/own"))
    assert os.stat(to.path / "copy/b").st_nlink == 2
    assert not (to.path / "copy/c").exists()
    with pytest.raises(UnsafeMember):
        to.extraction.begin(Member("src/d", Kind.LINK, 0o644, 0, 0, "../outside/secret"))


@pytest.mark.parametrize("deep", [0, 1, 60])
def test_a_hard_link_to_a_file_that_a_link_has_replaced(to: Destination, deep: int) -> None:
    name = "src/" + "d/" * deep + "s"
    to.put(file(name), b"content")
    to.put(symlink(name, "../" * deep + "outside"))
    to.put(Member("src/pw", Kind.LINK, 0o644, 0, 0, name))
    assert (to.path / "copy" / name.removeprefix("src/")).is_symlink()
    assert not os.path.lexists(to.path / "copy/pw")
    assert to.warnings == ["copy/pw was left out: it is a hard link to a file that was not copied"]


def test_a_hard_link_to_a_file_that_was_replaced_by_another_name(to: Destination) -> None:
    """If the file system ignores the case of names, a link `S` replaces the file `s`."""
    to.put(directory("src"))
    to.put(directory("src/d"))
    to.put(file("src/d/s"), b"content")
    (to.path / "copy/d/s").unlink()
    (to.path / "copy/d/s").symlink_to("../a")
    to.put(Member("src/b", Kind.LINK, 0o644, 0, 0, "src/d/s"))
    assert not os.path.lexists(to.path / "copy/b")
    assert to.warnings == ["copy/b was left out: the file of this hard link was replaced"]


def test_a_hard_link_to_itself_and_to_a_hard_link(to: Destination) -> None:
    to.put(directory("src"))
    to.put(file("src/a"), b"a")
    to.put(Member("src/b", Kind.LINK, 0o644, 0, 0, "src/a"))
    to.put(Member("src/c", Kind.LINK, 0o644, 0, 0, "src/b"))
    to.put(Member("src/c", Kind.LINK, 0o644, 0, 0, "src/c"))
    assert os.stat(to.path / "copy/a").st_nlink == 3
    assert (to.path / "copy/c").read_text() == "a"


def test_in_no_order_of_members_a_link_leads_out_of_the_copy(tmp_path: Path) -> None:
    members = [
        *(file(path) for path in ("src/a", "src/d/e/a")),
        *(symlink(path, link) for path in ("src/a", "src/d/e/a") for link in ("../..", "../d", "a")),
        *(Member(path, Kind.LINK, 0o644, 0, 0, link) for path, link in itertools.permutations(["src/a", "src/d/e/a"])),
    ]
    for index, order in enumerate(itertools.product(members, repeat=3)):
        (tmp_path / str(index)).mkdir()
        to = Destination(tmp_path / str(index))
        for member in order:
            to.put(member)
        to.extraction.close()
        root = str(to.path / "copy")
        for where, _, names in os.walk(root):
            for name in names:
                found = os.path.realpath(os.path.join(where, name))
                assert found == root or found.startswith(f"{root}/"), order


@given(
    st.lists(st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"7"]), max_size=4),
    st.one_of(st.integers(min_value=0), st.integers(2**63, 10**19 - 1)),
    st.integers(0, 0o7777777),
    st.dictionaries(st.sampled_from(["mtime", "path", "linkpath", "size"]), st.text(), max_size=2),
)
def test_any_header_is_accepted_or_raises_a_declared_error(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[bytes], mtime: int, mode: int, known: dict[str, str]
) -> None:
    to = Destination(tmp_path_factory.mktemp("tree"))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for index, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"src/{index}")
            info.type, info.mode, info.linkname = kind, mode, "src/0"
            info.pax_headers = {"mtime": str(mtime), **known}
            archive.addfile(info)
    try:
        for event in TarReader().feed(data.getvalue()):
            if isinstance(event, Member):
                to.extraction.begin(event)
            elif event is None:
                to.extraction.end()
            else:
                to.extraction.write(event)
        to.extraction.finish()
    except (OSError, TarError, UnsafeMember):
        pass
    finally:
        to.extraction.close()


def test_devices_and_privileges_are_omitted(to: Destination) -> None:
    to.put(directory("src"))
    to.put(Member("src/null", Kind.OTHER, 0o666, 0, 0))
    to.put(file("src/su", 0o6755))
    assert not (to.path / "copy/null").exists()
    assert stat.S_IMODE(os.stat(to.path / "copy/su").st_mode) == 0o755
    assert to.warnings == ["copy/null was left out: it is a special file"]


LINKS = st.lists(st.sampled_from(["..", ".", "a", "b", "l0", "l1", "l2"]), min_size=1, max_size=5).map("/".join)


@given(st.lists(st.tuples(st.sampled_from(["", "a/", "a/b/"]), LINKS), min_size=1, max_size=4))
def test_combinations_of_links_never_lead_outside(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "copy"
    (root / "a/b").mkdir(parents=True)
    made = []
    for index, (where, link) in enumerate(links):
        path = root / where / f"l{index}"
        if stays_inside(link, where.count("/")):
            path.symlink_to(link)
            made.append(path)
    for path in made:
        found = os.path.realpath(path)
        assert found == str(root) or found.startswith(f"{root}/")
