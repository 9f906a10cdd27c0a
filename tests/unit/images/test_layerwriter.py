"""Layers are written as Docker and containerd unpack them for overlay file systems."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.images.layers.layererrors import BadLayer
from hatchway.images.layers.lowerlayers import LowerLayers, is_opaque
from tests.images.making import Entry, directory, hardlink, opaque, symlink, tar_of, whiteout
from tests.images.unpacking import IS_ROOT, Guard, file, listed, unpack, unpack_all

_NEEDS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root may give files to others")


def _is_opaque(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return is_opaque(descriptor)
    finally:
        os.close(descriptor)


def test_files_directories_links_and_fifos(tmp_path: Path) -> None:
    (root,) = unpack_all(
        tmp_path,
        [
            directory("bin", 0o1755, mtime=1000),
            file("bin/sh", "#!", mode=0o4711, mtime=2000),
            symlink("sh", "bin/sh", mtime=3000),
            hardlink("bin/ash", "bin/sh"),
            Entry("pipe", type=tarfile.FIFOTYPE, mode=0o622, mtime=4000),
        ],
    )
    assert listed(root) == {"bin": None, "bin/ash": b"#!", "bin/sh": b"#!", "pipe": "special", "sh": "-> bin/sh"}
    modes = {name: oct(stat.S_IMODE((root / name).lstat().st_mode)) for name in ("bin", "bin/sh", "pipe")}
    assert modes == {"bin": "0o1755", "bin/sh": "0o4711", "pipe": "0o622"}
    times = {name: (root / name).lstat().st_mtime for name in ("bin", "bin/sh", "sh", "pipe")}
    assert times == {"bin": 1000, "bin/sh": 2000, "sh": 3000, "pipe": 4000}
    assert (root / "bin/ash").samefile(root / "bin/sh")


@_NEEDS_ROOT
def test_owners_and_setuid_bits_are_kept(tmp_path: Path) -> None:
    (root,) = unpack_all(
        tmp_path,
        [
            directory("d", uid=1, gid=2),
            file("d/f", uid=3, gid=4, mode=0o6755),
            symlink("l", "x", uid=5, gid=6),
            Entry("p", type=tarfile.FIFOTYPE, uid=7, gid=8),
        ],
    )
    owners = {name: (root / name).lstat()[4:6] for name in ("d", "d/f", "l", "p")}
    assert owners == {"d": (1, 2), "d/f": (3, 4), "l": (5, 6), "p": (7, 8)}
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o6755


def test_with_a_user_map_of_one_user_all_files_belong_to_this_user(tmp_path: Path) -> None:
    (root,) = unpack_all(tmp_path, [directory("d", uid=1), file("d/f", uid=70_000, gid=4)], keeps_owners=False)
    assert {(root / name).stat().st_uid for name in ("d", "d/f")} == {os.geteuid()}


@_NEEDS_ROOT
def test_a_capability_of_a_file_is_kept(tmp_path: Path) -> None:
    value = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    record = {"SCHILY.xattr.security.capability": value.decode("latin-1")}
    (root,) = unpack_all(tmp_path, [file("ping", mode=0o755, uid=5, pax=record)])
    assert os.getxattr(root / "ping", "security.capability") == value
    of_a_namespace = value[:3] + b"\x03" + value[4:] + (100).to_bytes(4, "little")
    record = {"SCHILY.xattr.security.capability": of_a_namespace.decode("latin-1")}
    (root,) = unpack_all(tmp_path / "second", [file("ping", pax=record)])
    assert os.getxattr(root / "ping", "security.capability") == value


def test_read_only_directories_get_their_files(tmp_path: Path) -> None:
    (root,) = unpack_all(tmp_path, [directory("d", 0o555), directory("d/e", 0o500), file("d/e/f"), file("d/g")])
    assert listed(root) == {"d": None, "d/e": None, "d/e/f": b"new", "d/g": b"new"}
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o500


def test_a_directory_may_come_after_its_files(tmp_path: Path) -> None:
    (root,) = unpack_all(tmp_path, [file("a/b/c"), directory("a/b", 0o700, mtime=5), directory("a", 0o711, mtime=6)])
    assert [(root / name).stat().st_mtime for name in ("a/b", "a")] == [5, 6]
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("a/b", "a")] == [0o700, 0o711]


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    names = ["file", "link", "directory"]
    makers: dict[str, Any] = {
        "file": lambda: [file("x", "a file")],
        "link": lambda: [symlink("x", "y")],
        "directory": lambda: [directory("x"), file("x/y/z")],
    }
    ends = {"file": {"x": b"a file"}, "link": {"x": "-> y"}, "directory": {"x": None, "x/y": None, "x/y/z": b"new"}}
    for first in names:
        for second in names:
            root = tmp_path / f"{first}-{second}"
            unpack(root, [*makers[first](), *makers[second]()])
            assert listed(root) == ends[second], (first, second)


def test_a_repeated_entry_of_a_directory_keeps_its_files(tmp_path: Path) -> None:
    (root,) = unpack_all(tmp_path, [directory("a", 0o700), file("a/b"), directory("a", 0o750)])
    assert listed(root) == {"a": None, "a/b": b"new"}
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750


def test_a_directory_made_again_has_no_attributes_of_the_earlier_directory(tmp_path: Path) -> None:
    (root,) = unpack_all(
        tmp_path,
        [directory("a", 0o700, mtime=5), file("a"), file("a2"), hardlink("a", "a2"), symlink("a", "b"), file("c/d")],
    )
    assert listed(root)["a"] == "-> b"


def test_files_are_written_through_links_of_their_own_layer(tmp_path: Path) -> None:
    (root,) = unpack_all(
        tmp_path, [directory("usr/lib"), symlink("lib", "usr/lib"), file("lib/a"), symlink("l", "/lib"), file("l/b/c")]
    )
    assert sorted(name for name in listed(root) if name.startswith("usr/lib/")) == [
        "usr/lib/a",
        "usr/lib/b",
        "usr/lib/b/c",
    ]


def test_the_missing_target_directory_of_a_link_is_made(tmp_path: Path) -> None:
    (root,) = unpack_all(tmp_path, [symlink("var/run", "../run"), file("var/run/pid")])
    assert listed(root) == {"run": None, "run/pid": b"new", "var": None, "var/run": "-> ../run"}


def test_missing_directories_are_like_those_of_lower_layers(tmp_path: Path) -> None:
    record = {"SCHILY.xattr.user.kept": "1"}
    owner = 33 if IS_ROOT else os.geteuid()
    upper, _ = unpack_all(
        tmp_path, [directory("srv/www", 0o2770, uid=owner, mtime=77, pax=record)], [file("srv/www/a/b")]
    )
    status = (upper / "srv/www").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o2770, owner, 77)
    assert os.getxattr(upper / "srv/www", "user.kept") == b"1"
    assert stat.S_IMODE((upper / "srv/www/a").stat().st_mode) == 0o755


def test_whiteouts_hide_files_of_lower_layers(tmp_path: Path) -> None:
    upper, _ = unpack_all(tmp_path, {"a": "1", "d/e": "2", "d/f": "3"}, [whiteout("a"), whiteout("d/e")])
    assert listed(upper) == {"a": "whiteout", "d": None, "d/e": "whiteout"}


def test_whiteouts_of_missing_files_are_not_written(tmp_path: Path) -> None:
    """In a directory that only this layer has, overlayfs would show them as files (overlayfs.rst)."""
    upper, *_ = unpack_all(
        tmp_path, {"a": "1"}, [whiteout("a")], [whiteout("a"), whiteout("b/c"), file("d"), whiteout("e")]
    )
    assert listed(upper) == {"d": b"new"}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_whiteout_hides_nothing_of_its_own_layer(tmp_path: Path, is_first: bool) -> None:
    """image-spec layer.md: whiteouts apply to lower layers only, wherever they stand in the archive."""
    mine = [file("a"), file("d/mine")]
    hidden = [whiteout("a"), whiteout("d")]
    upper, _ = unpack_all(tmp_path, {"a": "1", "d/lower": "2"}, [*hidden, *mine] if is_first else [*mine, *hidden])
    assert listed(upper) == {"a": b"new", "d": None, "d/mine": b"new"}
    assert _is_opaque(upper / "d")


@pytest.mark.parametrize("is_first", [True, False])
def test_an_opaque_directory_keeps_the_files_of_its_own_layer(tmp_path: Path, is_first: bool) -> None:
    entries = [opaque("d"), file("d/mine")]
    upper, _ = unpack_all(tmp_path, {"d/lower": "2"}, entries if is_first else entries[::-1])
    assert listed(upper) == {"d": None, "d/mine": b"new"}
    assert _is_opaque(upper / "d")


def test_a_directory_that_replaces_a_whiteout_or_a_file_hides_the_lower_directory(tmp_path: Path) -> None:
    entries = [whiteout("a"), directory("a"), file("b"), directory("b"), whiteout("c"), file("c/x")]
    upper, _ = unpack_all(tmp_path, {"a/1": "", "b/1": "", "c/1": ""}, entries)
    assert [_is_opaque(upper / name) for name in "abc"] == [True, True, True]


def test_a_directory_is_merged_with_the_lower_directory(tmp_path: Path) -> None:
    upper, _ = unpack_all(tmp_path, {"a/1": ""}, [directory("a"), file("a/2")])
    assert not _is_opaque(upper / "a")


def test_a_device_hides_the_lower_file_that_it_would_replace(tmp_path: Path) -> None:
    device = Entry("dev/console", type=tarfile.CHRTYPE, device=(5, 1))
    upper, _ = unpack_all(tmp_path, {"dev/console": "fake"}, [device])
    assert listed(upper) == {"dev": None, "dev/console": "whiteout"}


def test_a_whiteout_in_overlayfs_format_is_accepted(tmp_path: Path) -> None:
    upper, _ = unpack_all(tmp_path, {"a": "1"}, [Entry("a", type=tarfile.CHRTYPE), Entry("b", type=tarfile.CHRTYPE)])
    assert listed(upper) == {"a": "whiteout"}


def test_a_hard_link_to_a_file_of_a_lower_layer(tmp_path: Path) -> None:
    top, _, bottom = unpack_all(tmp_path, {"d/a": "content"}, {"other": ""}, [hardlink("e/b", "d/a")])
    assert listed(top) == {"e": None, "e/b": b"content"}
    assert (top / "e/b").samefile(bottom / "d/a")


def test_a_hard_link_to_a_file_that_a_middle_layer_hides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLayer, match="which does not exist"):
        unpack_all(tmp_path, {"d/a": "content"}, [opaque("d")], [hardlink("b", "d/a")])


def test_a_layer_that_hides_all_lower_ones(tmp_path: Path) -> None:
    roots = unpack_all(tmp_path, {"a": "1"}, [Entry(".wh..wh..opq"), file("b")], [whiteout("a"), file("c")])
    assert [listed(root) for root in roots] == [{"c": b"new"}, {"b": b"new"}]


def test_look_ups_in_lower_layers_agree_with_overlayfs(tmp_path: Path) -> None:
    roots = unpack_all(
        tmp_path,
        {"a/1": "", "b/1": "", "c/1": "", "d": "", "e/f/1": ""},
        [opaque("a"), file("a/2"), whiteout("b"), file("c"), file("d/1"), file("e/f/2")],
    )
    with LowerLayers(roots) as layers:
        found = {
            name: layers.find(name.encode()) is not None
            for name in ("a", "a/1", "a/2", "b", "b/1", "c", "c/1", "d", "d/1", "e/f/1", "e/f/2", "e/f/3", "x", "x/y")
        }
    shown = {"a", "a/2", "c", "d", "d/1", "e/f/1", "e/f/2"}
    assert {name for name, is_shown in found.items() if is_shown} == shown


# Properties

_SEGMENTS = st.sampled_from(["a", "b", "c", "..", ".", "", "outside", "etc", "passwd", "x" * 100])
_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=5).map("/".join)
_NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


# Without these bits, an ordinary user could not read its own files, but root of a user namespace can.
_MODES = st.integers(0, 0o7777).map(lambda mode: mode if IS_ROOT else mode | 0o700)


@st.composite
def _odd_entries(draw: st.DrawFn) -> Entry:
    kinds = b"0125346"
    kind = bytes([draw(st.sampled_from(kinds))])
    prefix = draw(st.sampled_from(["", "", "", ".wh.", ".wh..wh.", "OUTSIDE"]))
    name = draw(_PATHS)
    if prefix.startswith(".wh"):
        head, slash, last = name.rpartition("/")
        name = f"{head}{slash}{prefix}{draw(st.sampled_from([last, '.opq', '']))}"
    elif prefix:
        name = f"{prefix}/{name}"
    link = draw(st.sampled_from(["", "OUTSIDE/", "../outside/"])) + draw(_PATHS)
    return Entry(name, b"x" if kind == b"0" else b"", type=kind, mode=draw(_MODES), link=link)


@given(st.lists(_odd_entries(), max_size=12), st.lists(_odd_entries(), max_size=12))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_entries_change_files_outside_of_the_layer(
    tmp_path_factory: pytest.TempPathFactory, first: list[Entry], second: list[Entry]
) -> None:
    path = tmp_path_factory.mktemp("any")
    guard = Guard(path / "outside")
    lowers: list[Path] = []
    for index, entries in enumerate((first, second)):
        there = [
            Entry(
                entry.name.replace("OUTSIDE", str(guard.path)),
                entry.content,
                entry.type,
                entry.mode,
                link=entry.link.replace("OUTSIDE", str(guard.path)),
            )
            for entry in entries
        ]
        root = path / "layers" / str(index) / "root"
        try:
            unpack(root, there, lowers=lowers)
            lowers.insert(0, root)
        except BadLayer:
            pass
        guard.check(path / "layers")


@st.composite
def _fitting_entries(draw: st.DrawFn) -> list[Entry]:
    """Make entries of an archive that GNU tar unpacks without errors, too: each name once, parents first."""
    entries: list[Entry] = []
    folders, files = [""], []
    for number in range(draw(st.integers(0, 12))):
        name = draw(st.sampled_from(folders)) + draw(st.sampled_from(["a", "b", "é\n", "n" * 101])) + str(number)
        kind = draw(st.sampled_from(["file", "directory", "link", "hard link", "fifo"]))
        mode, mtime = draw(st.integers(0, 0o7777)), draw(st.integers(-10, 1 << 33))
        if kind == "directory":
            entries.append(directory(name, mode | 0o700, mtime=mtime))
            folders.append(name + "/")
        elif kind == "link":
            entries.append(symlink(name, draw(st.sampled_from(["a", "../b", "/etc/passwd", "l" * 150])), mtime=mtime))
        elif kind == "hard link" and files:
            entries.append(hardlink(name, draw(st.sampled_from(files))))
        elif kind == "fifo":
            entries.append(Entry(name, type=tarfile.FIFOTYPE, mode=mode, mtime=mtime))
        else:
            entries.append(Entry(name, draw(st.binary(max_size=2000)), mode=mode, mtime=mtime))
            files.append(name)
    return entries


def _described(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        content: Any = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes() if IS_ROOT else status.st_size
        first = inodes.setdefault(status.st_ino, name)
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, first, content)
    return found


@given(_fitting_entries())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_well_formed_layers_give_the_same_tree_as_gnu_tar(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    path = tmp_path_factory.mktemp("same")
    unpack(path / "ours", entries)
    (path / "theirs").mkdir()
    data = tar_of(entries)
    subprocess.run(
        ["tar", "-x", "-p", "--numeric-owner", "--delay-directory-restore", "-f", "-", "-C", str(path / "theirs")],
        input=data,
        check=True,
        capture_output=True,
    )
    assert _described(path / "ours") == _described(path / "theirs")
