"""The files below /var/log that a node's API serves."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from hatchway.cluster.node import nodelogs
from hatchway.cluster.node.nodelogs import NodeLogs
from hatchway.proxy.routing import App, Respond

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes have file systems on Linux only")


class Files:
    """Every node has the same directory as its file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        return str(self._root), path

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        return False

    def unmount(self, path: str) -> None:
        raise AssertionError("nothing is mounted")


@pytest.fixture
def logs(tmp_path: Path) -> NodeLogs:
    pods = tmp_path / "var/log/pods"
    for name, node in (("default_mine_1", "node-1"), ("default_other_2", "node-2"), ("default_unsigned_3", "")):
        (pods / name / "c").mkdir(parents=True)
        (pods / name / "c" / "0.log").write_text(name)
        if node:
            (pods / name / ".node").write_text(f"{node}\n")
    (tmp_path / "var/log/own.log").write_text("own")
    (tmp_path / "var/log/link").symlink_to("pods/default_other_2/c/0.log")
    return NodeLogs(Files(tmp_path), 1, "node-1", pods)


async def status(logs: NodeLogs, path: str) -> int:
    """Return the status of a GET below /logs/; 200 for a file that would be sent."""
    found = await logs.answer(path)
    if isinstance(found, App):
        await found.app({"type": "http"}, None, _ignore)  # type: ignore[arg-type]
        return 200
    assert isinstance(found, Respond)
    return found.status


async def _ignore(_: object) -> None:
    return None


async def test_each_node_shows_the_logs_of_its_own_pods(logs: NodeLogs) -> None:
    listing = await logs.answer("pods/")
    assert isinstance(listing, Respond)
    assert b"default_mine_1/" in listing.body and b"default_unsigned_3/" in listing.body
    assert b"default_other_2" not in listing.body
    assert await status(logs, "pods/default_mine_1/c/0.log") == 200
    assert await status(logs, "pods/default_unsigned_3/c/") == 200
    for path in ("pods/default_other_2/c/0.log", "pods/default_other_2/", "link", "pods/x/../default_other_2/c/0.log"):
        assert await status(logs, path) == 404, path


async def test_other_files_can_be_read(logs: NodeLogs) -> None:
    assert await status(logs, "own.log") == 200
    listing = await logs.answer("")
    assert isinstance(listing, Respond) and b"pods/" in listing.body and b"own.log" in listing.body


@pytest.mark.parametrize("moved", ["var", "var/log", "var/log/pods"])
@pytest.mark.parametrize("to", ["etc", "a directory", "the logs", "nothing"])
async def test_no_file_is_sent_after_a_pod_has_moved_directories(
    logs: NodeLogs, tmp_path: Path, moved: str, to: str
) -> None:
    assert await status(logs, "") == 200
    pods = f"{moved}2" + "var/log/pods".removeprefix(moved)
    logs = NodeLogs(Files(tmp_path), 1, "node-1", tmp_path / pods)
    (tmp_path / "etc/log/pods").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("secret")
    (tmp_path / moved).rename(tmp_path / f"{moved}2")
    if to == "a directory":
        (tmp_path / "var/log/pods").mkdir(parents=True)
    elif to != "nothing":
        (tmp_path / moved).symlink_to(tmp_path / "etc" if to == "etc" else tmp_path / f"{moved}2")
    for path in ("", "passwd", "own.log", "pods2/", "pods2/default_other_2/c/0.log", "pods/default_other_2/c/0.log"):
        assert await status(logs, path) == 404, path


async def test_a_long_listing_is_truncated_and_made_in_a_thread(
    logs: NodeLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodelogs, "_NAMES", 5)
    many = tmp_path / "var/log/many"
    many.mkdir()
    for number in range(5):
        (many / f"file-{number}").touch()
    threads = []
    quote = nodelogs.quote

    def quoted(text: str) -> str:
        threads.append(threading.current_thread())
        return quote(text)

    monkeypatch.setattr(nodelogs, "quote", quoted)
    listing = await logs.answer("many/")
    assert isinstance(listing, Respond)
    assert listing.body.count(b"<a ") == 5 and b"There are more" not in listing.body
    (many / "one more").touch()
    listing = await logs.answer("many/")
    assert isinstance(listing, Respond)
    lines = listing.body.splitlines()
    assert listing.body.count(b"<a ") == 5 and lines[-2] == b"There are more: these are 5 of the names."
    assert threads and threading.main_thread() not in threads
