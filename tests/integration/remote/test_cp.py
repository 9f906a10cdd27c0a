"""`hatchway cp` with an independent API server and this machine's tar."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.integration.remote.conftest import Run
from tests.podserver import PodServer


def make_tree(root: Path) -> Path:
    (root / "dir/sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "dir/sub/a file").write_bytes(os.urandom(100_001))
    (root / "dir/ünïcode").write_bytes(b"")
    (root / "dir/run").write_bytes(b"#!/bin/sh\n")
    (root / ("long" * 50)).write_bytes(b"x" * 512)
    (root / "-dash").write_bytes(b"dash")
    (root / "dir/run").chmod(0o751)
    (root / "dir/up").symlink_to("../empty")
    (root / "dir/sub").chmod(0o705)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return root


def described(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return path -> (mode, time, content) of every file and directory of a tree."""
    found = {}
    for path in [root, *root.rglob("*")]:
        info = os.lstat(path)
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        mode = 0 if path.is_symlink() else stat.S_IMODE(info.st_mode)
        found[str(path.relative_to(root))] = mode, int(info.st_mtime) if not path.is_symlink() else 0, content
    return found


def test_a_tree_arrives_bit_for_bit_both_ways(hatchway: Run, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for arguments in ((str(tree), f"one:{tmp_path}/there"), (f"one:{tmp_path}/there", str(tmp_path / "back"))):
        done = hatchway("cp", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert described(tmp_path / "there") == described(tree)
    assert described(tmp_path / "back") == described(tree)


def test_names_of_the_copy(hatchway: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    (tmp_path / "in").mkdir()
    for target in ("in", "in/", "in/g"):
        assert hatchway("cp", str(tmp_path / "f"), f"default/one:{tmp_path}/{target}").returncode == 0
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["f", "g"]
    (tmp_path / "out").mkdir()
    for target in ("out", "out/h"):
        assert hatchway("cp", f"pod/one:{tmp_path}/f", str(tmp_path / target)).returncode == 0
    assert hatchway("cp", f"one:{tmp_path}/in/.", str(tmp_path / "out/all")).returncode == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*")) == [
        "out/all",
        "out/all/f",
        "out/all/g",
        "out/f",
        "out/h",
    ]


@pytest.mark.parametrize("resume", [False, True])
def test_a_source_that_is_a_link_is_followed(hatchway: Run, tmp_path: Path, resume: bool) -> None:
    options = ["--resume"] if resume else []
    (tmp_path / "there/data").mkdir(parents=True)
    (tmp_path / "there/data/file").write_text("content")
    (tmp_path / "there/data/inner").symlink_to("file")
    (tmp_path / "there/file").symlink_to("data/file")
    (tmp_path / "there/now").symlink_to(tmp_path / "there/data")
    (tmp_path / "there/gone").symlink_to("nothing")
    (tmp_path / "back").mkdir()
    for name in ("file", "now"):
        done = hatchway("cp", f"one:{tmp_path}/there/{name}", f"{tmp_path}/back/", *options)
        assert (done.returncode, done.stderr) == (0, b"")
    assert not (tmp_path / "back/file").is_symlink()
    assert (tmp_path / "back/file").read_text() == "content"
    assert not (tmp_path / "back/now").is_symlink()
    assert (tmp_path / "back/now/file").read_text() == "content"
    assert os.readlink(tmp_path / "back/now/inner") == "file"
    done = hatchway("cp", f"one:{tmp_path}/there/gone", f"{tmp_path}/back/", *options)
    assert done.returncode == 1
    assert b"cannot read" in done.stderr
    assert not (tmp_path / "back/gone").is_symlink()


def test_a_link_in_place_of_its_target_is_an_error(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with tarfile.open(tmp_path / "archive", "w") as archive:
        link = tarfile.TarInfo("file")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (bare / "tar").write_text(f"#!/bin/sh\nexec cat {tmp_path}/archive\n")
    (bare / "tar").chmod(0o755)
    server.environment["PATH"] = f"{bare}:{os.environ['PATH']}"
    done = hatchway("cp", f"one:{tmp_path}/file", str(tmp_path / "here"))
    assert done.returncode == 1
    assert b"a link to /etc/passwd" in done.stderr
    assert not os.path.lexists(tmp_path / "here")


@pytest.mark.parametrize("cut", [1, 70_000, 3_000_000])
def test_an_interrupted_download_continues(hatchway: Run, server: PodServer, tmp_path: Path, cut: int) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "large").write_bytes(os.urandom(6 << 20))
    server.cut_after = cut
    done = hatchway("cp", f"one:{tree}", str(tmp_path / "back"))
    assert done.returncode == 0, done.stderr
    assert not server.cut_after
    assert described(tmp_path / "back") == described(tree)


@pytest.mark.parametrize("cut", [1, 70_000, 3_000_000, 7_000_000])
def test_an_interrupted_upload_continues(hatchway: Run, server: PodServer, tmp_path: Path, cut: int) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "large").write_bytes(os.urandom(9 << 20))
    (tree / "later").write_bytes(b"later")
    os.utime(tree, (1_000_000_000, 1_000_000_000))
    server.cut_input_after = cut
    done = hatchway("cp", str(tree), f"one:{tmp_path}/there")
    assert done.returncode == 0, done.stderr
    assert not server.cut_input_after
    assert described(tmp_path / "there") == described(tree)
    # After an interruption in the large file, the part that the pod has written is not sent again.
    appended = any("cat+" in path for path in server.requests)
    assert not appended if cut < 3_000_000 else appended or cut < 7_000_000


BOTH_WAYS = pytest.mark.parametrize("down", [True, False], ids=["download", "upload"])


def both(tmp_path: Path, down: bool) -> tuple[str, str]:
    """Return SOURCE and DESTINATION of a copy of `tree` to `copy`."""
    return (f"one:{tmp_path}/tree", f"{tmp_path}/copy") if down else (f"{tmp_path}/tree", f"one:{tmp_path}/copy")


@BOTH_WAYS
def test_a_second_run_continues_an_incomplete_copy(
    hatchway: Run, server: PodServer, tmp_path: Path, down: bool
) -> None:
    tree, copy = make_tree(tmp_path / "tree"), tmp_path / "copy"
    for name in ("broken", "other", "whole"):
        (tree / name).write_bytes(os.urandom(9 << 20))
    (tree / "changed").write_text("as it is now")
    (tree / "later").mkdir()
    (tree / "later/b\\s").write_text("later")
    for path in [*tree.rglob("*"), tree]:
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    assert hatchway("cp", *both(tmp_path, down)).returncode == 0
    os.truncate(copy / "broken", 5 << 20)
    # The beginning differs, like that of an earlier version.
    (copy / "other").write_bytes(b"another beginning" * 300_000)
    (copy / "changed").write_text("as it was by")
    (copy / "dir/sub/a file").unlink()
    (copy / "later/b\\s").unlink()
    (copy / "later").rmdir()
    server.requests.clear()
    done = hatchway("cp", "--resume", *both(tmp_path, down))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert described(copy) == described(tree)
    asked = [path for path in server.requests if "exec" in path]
    assert sum("tail" in path and "tree%2Fbroken" in path for path in asked) == (1 if down else 0)
    assert sum("cat+" in path and "copy%2Fbroken" in path for path in asked) == (0 if down else 1)
    assert not any("whole" in path for path in asked)


@BOTH_WAYS
def test_a_second_run_sends_no_content_of_complete_files(
    hatchway: Run, server: PodServer, tmp_path: Path, down: bool
) -> None:
    tree, copy = make_tree(tmp_path / "tree"), tmp_path / "copy"
    assert hatchway("cp", "--resume", *both(tmp_path, down)).returncode == 0
    assert described(copy) == described(tree)
    # Like rsync, cp does not compare the content of files with the same time and size.
    (copy / "dir/run").write_bytes(b"#?/bin/sh\n")
    os.utime(copy / "dir/run", (1_000_000_000, 1_000_000_000))
    assert hatchway("cp", "--resume", *both(tmp_path, down)).returncode == 0
    assert (copy / "dir/run").read_bytes() == b"#?/bin/sh\n"
    assert not os.path.lexists(copy / "tree")  # The tree was copied to this path, not into it.
    assert hatchway("cp", *both(tmp_path, down)).returncode == 0
    assert (copy / "tree").is_dir()


@BOTH_WAYS
@pytest.mark.parametrize("cut", [100, 2_000_000])
def test_an_interrupted_second_run_continues(
    hatchway: Run, server: PodServer, tmp_path: Path, down: bool, cut: int
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "broken").write_bytes(os.urandom(9 << 20))
    assert hatchway("cp", *both(tmp_path, down)).returncode == 0
    os.truncate(tmp_path / "copy/broken", 5 << 20)
    if down:
        server.cut_after = cut
    else:
        server.cut_input_after = cut
    assert hatchway("cp", "--resume", *both(tmp_path, down)).returncode == 0
    assert not server.cut_after and not server.cut_input_after
    assert described(tmp_path / "copy") == described(tree)


def test_the_destination_of_a_resumed_copy(hatchway: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    (tmp_path / "in").mkdir()
    for source, destination in ((f"one:{tmp_path}/f", f"{tmp_path}/in"), (f"{tmp_path}/f", f"one:{tmp_path}/in")):
        assert hatchway("cp", "--resume", source, destination).returncode == 0
        assert [path.name for path in (tmp_path / "in").iterdir()] == ["f"]
    tree = make_tree(tmp_path / "tree")
    for source, destination in ((f"one:{tree}", f"{tmp_path}/in/"), (str(tree), f"one:{tmp_path}/in/")):
        for end in ("/", ""):
            assert hatchway("cp", "--resume", source, destination.removesuffix("/") + end).returncode == 0
            assert described(tmp_path / "in/tree") == described(tree)
            assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["f", "tree"]


@BOTH_WAYS
def test_a_tree_that_cannot_be_listed_is_copied_as_a_whole(hatchway: Run, tmp_path: Path, down: bool) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "two\nlines").write_text("x")
    assert hatchway("cp", *both(tmp_path, down)).returncode == 0
    done = hatchway("cp", "--resume", *both(tmp_path, down))
    assert done.returncode == 0 and b"so all are copied" in done.stderr
    assert described(tmp_path / "copy") == described(tree)


def test_single_files_pass_without_tar(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("cat", "sh", "test"):
        (bare / name).symlink_to(f"/bin/{name}" if name != "test" else "/usr/bin/test")
    server.environment["PATH"] = str(bare)
    content = os.urandom(300_000)
    (tmp_path / "f").write_bytes(content)
    done = hatchway("cp", str(tmp_path / "f"), f"one:{tmp_path}/g")
    assert (done.returncode, (tmp_path / "g").read_bytes()) == (0, content)
    assert b"the container has no tar" in done.stderr
    done = hatchway("cp", f"one:{tmp_path}/g", str(tmp_path / "h"))
    assert (done.returncode, (tmp_path / "h").read_bytes()) == (0, content)
    assert b"the container has no tar" in done.stderr
    for arguments in ((f"one:{bare}", str(tmp_path / "x")), (str(bare), f"one:{tmp_path}/y")):
        done = hatchway("cp", *arguments)
        assert done.returncode == 1
        assert b"tar" in done.stderr


def test_a_pod_that_sends_another_archive_writes_nowhere_else(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    outside = tmp_path / "outside"
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/x").write_text("evil")
    (bare / "tar").write_text(
        f"#!/bin/sh\ncd {tmp_path} && exec /bin/tar cf - --transform 's,^evil,../outside,' -P evil\n"
    )
    (bare / "tar").chmod(0o755)
    server.environment["PATH"] = f"{bare}:{os.environ['PATH']}"
    (tmp_path / "here").mkdir()
    done = hatchway("cp", "one:/data", str(tmp_path / "here"))
    assert done.returncode == 1
    assert b"which is outside the requested path" in done.stderr
    assert not outside.exists()
    assert list((tmp_path / "here").iterdir()) == []


def send(server: PodServer, directory: Path, members: list[tarfile.TarInfo]) -> None:
    """Let the pod's tar write an archive with these members, which have no content."""
    bare = directory / "bin"
    bare.mkdir()
    with tarfile.open(directory / "archive", "w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member)
    (bare / "tar").write_text(f"#!/bin/sh\nexec cat {directory}/archive\n")
    (bare / "tar").chmod(0o755)
    server.environment["PATH"] = f"{bare}:{os.environ['PATH']}"


def member(path: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, link
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def test_a_hard_link_to_a_symbolic_link_is_left_out(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    deep = "data/" + "d/" * 60 + "s"
    (tmp_path / "secret").write_text("secret")
    members = [
        member(deep),
        member(deep, tarfile.SYMTYPE, "../" * 3 + "secret"),
        member("data/secret", tarfile.LNKTYPE, deep),
    ]
    send(server, tmp_path, members)
    done = hatchway("cp", "one:/data", str(tmp_path / "here"))
    assert done.returncode == 0
    assert done.stderr == b"warning: here/secret was left out: it is a hard link to a file that was not copied\n"
    assert (tmp_path / "here" / deep.removeprefix("data/")).is_symlink()
    assert not os.path.lexists(tmp_path / "here/secret")


def test_a_file_with_a_time_that_no_file_system_can_store(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    members = [member("data", tarfile.DIRTYPE), member("data/f"), member("data/l", tarfile.SYMTYPE, "f")]
    for one in members:
        one.pax_headers = {"mtime": "9999999999999999999"}
    send(server, tmp_path, members)
    done = hatchway("cp", "one:/data", str(tmp_path / "here"))
    assert (done.returncode, done.stderr) == (0, b"")
    # The time is the latest one that the file system can store, at least that of 32 bits.
    assert os.stat(tmp_path / "here/f").st_mtime >= 2**31 - 1


def test_errors_name_the_file_that_cannot_be_copied(hatchway: Run, tmp_path: Path) -> None:
    assert b"nothing.here" in hatchway("cp", f"one:{tmp_path}/nothing.here", str(tmp_path / "x")).stderr
    assert b"there is no" in hatchway("cp", str(tmp_path / "nothing"), "one:/tmp").stderr
    assert b"cannot write to" in hatchway("cp", str(tmp_path), f"one:{tmp_path}/no/such/place").stderr
    assert b"both are on this machine" in hatchway("cp", "./a", "./b").stderr
