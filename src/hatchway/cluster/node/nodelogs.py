"""Serves `/logs/`: the files of /var/log in the node's own file system (`ServeLogs`, Go's http.FileServer).

Pods may mount this directory by a hostPath, and change it. So paths are opened by `beneath`, links that lead out of the
directory are refused, and only directories and regular files are opened. All nodes share one directory of pods' logs
(/var/log/pods); each node serves only the logs of its own pods. A pod with a hostPath of /var can replace these
directories; then no logs are served.
"""

from __future__ import annotations

import asyncio
import errno
import html
import itertools
import os
import posixpath
import stat
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from hatchway import beneath
from hatchway.cluster import plan
from hatchway.cluster.node.logfiles import NODE_FILE
from hatchway.cluster.runtime import NodeFiles
from hatchway.proxy.routing import App, Decision, Respond, Scope

DIRECTORY = "/var/log"
_PIECE = 65536
# The maximum number of names in a listing. (A pod with a hostPath can create any number of files.)
_NAMES = 10_000
_HTML, _TEXT = b"text/html; charset=utf-8", b"text/plain; charset=utf-8"


class NodeLogs:
    """The logs of one node.

    files, index: access to the node's file system, and the node's number.
    name: the node's name.
    pods: the directory of all pods' logs.
    """

    def __init__(self, files: NodeFiles, index: int, name: str, pods: Path) -> None:
        self._files = files
        self._index = index
        self._name = name
        self._pods = pods

    async def answer(self, path: str) -> Decision:
        """Return a listing, or a file. path: the decoded path below /logs/."""
        if "\0" in path:
            return _plain(400, "invalid URL path")
        try:
            found, listing = await asyncio.to_thread(self._open, path)
        except (FileNotFoundError, NotADirectoryError):
            return _plain(404, "404 page not found")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EXDEV):
                return _plain(403, "403 Forbidden")
            return _plain(500, "500 Internal Server Error")
        if found is None:
            if path and not path.endswith("/"):
                return _redirect(path.rpartition("/")[2] + "/")
            return Respond(200, [(b"Content-Type", _HTML)], listing)
        if path.endswith("/"):
            found.close()
            return _redirect("../" + path.rstrip("/").rpartition("/")[2])
        return App(_NodeLogFile(found))

    def _open(self, path: str) -> tuple[BinaryIO | None, bytes]:
        """Return an open file, or the listing of a directory. Raises OSError."""
        root, inside = self._files.locate(self._index, DIRECTORY)
        with (
            beneath.closing(beneath.open_directory(root)) as top,
            beneath.closing(_open_without_links(top, inside)) as logs,
            _PodLogs(logs, self._name, self._pods) as pods,
            beneath.closing(beneath.open_beneath(logs, posixpath.normpath(f"/{path}").lstrip("/"))) as found,
        ):
            mode = os.fstat(found).st_mode
            real = f"/proc/self/fd/{found}" if os.path.exists("/proc/self/fd") else f"/dev/fd/{found}"
            below = pods.below(found)
            if below and not pods.are_own(below.partition("/")[0]):
                raise FileNotFoundError(path)
            if stat.S_ISDIR(mode):
                with os.scandir(real) as entries:
                    shown = (one for one in entries if below != "" or pods.are_own(one.name))
                    names = [
                        f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name
                        for one in itertools.islice(shown, _NAMES)
                    ]
                    is_whole = next(shown, None) is None
                return None, _listing(sorted(names), is_whole=is_whole)
            if not stat.S_ISREG(mode):
                raise FileNotFoundError(path)
            return open(real, "rb", buffering=0), b""


class _PodLogs:
    """The directory of all pods' logs.

    logs: a descriptor of the node's /var/log.
    node: the name of the node whose pods' logs are served.
    real: the path of the directory, which no container can change.

    Raises FileNotFoundError when the `pods` in /var/log is not this directory.
    """

    def __init__(self, logs: int, node: str, real: Path) -> None:
        self._node = node
        self._logs = logs
        self._directory = _open_without_links(logs, posixpath.relpath(plan.NODE_LOGS, DIRECTORY))
        try:
            if not os.path.samestat(os.fstat(self._directory), os.stat(real)):
                raise FileNotFoundError(plan.NODE_LOGS)
        except OSError:
            os.close(self._directory)
            raise

    def __enter__(self) -> _PodLogs:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)

    def below(self, descriptor: int) -> str | None:
        """Return the path of an open file below this directory; "" for the directory itself, None when it is elsewhere.

        The kernel provides the path, so links have no effect. Raises OSError when directories are moved at the same
        time.
        """
        try:
            top, path = (os.readlink(f"/proc/self/fd/{number}") for number in (self._directory, descriptor))
        except OSError:
            # Nodes have their own file systems only on Linux.
            return None
        if path != top and not path.startswith(top + "/"):
            if _mount(descriptor) == _mount(self._directory) != _mount(self._logs):
                raise FileNotFoundError(path)
            return None
        below = path[len(top) + 1 :]
        with beneath.closing(beneath.open_beneath(self._directory, below)) as again:
            if not os.path.samestat(os.fstat(again), os.fstat(descriptor)):
                raise FileNotFoundError(path)
        return below

    def are_own(self, name: str) -> bool:
        """Return True when the directory `name` has logs of a pod of this node, or of an unknown node."""
        try:
            with beneath.closing(beneath.open_beneath(self._directory, f"{name}/{NODE_FILE}")) as file:
                return Path(f"/proc/self/fd/{file}").read_text().strip() == self._node
        except OSError:
            return True


def _open_without_links(directory: int, path: str) -> int:
    """Open a directory below another directory, without following any link. Raises OSError."""
    found = os.dup(directory)
    for name in path.strip("/").split("/"):
        with beneath.closing(found) as above:
            try:
                found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise NotADirectoryError(error.errno, error.strerror) from error
                raise
    return found


def _mount(descriptor: int) -> str:
    """Return the id of the mount of an open file (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def _listing(names: list[str], *, is_whole: bool) -> bytes:
    lines = [f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names]
    if not is_whole:
        lines.append(f"There are more: these are {_NAMES} of the names.\n")
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    return f"{head}<pre>\n{''.join(lines)}</pre>\n".encode("utf-8", "surrogateescape")


def _plain(status: int, text: str) -> Respond:
    return Respond(status, [(b"Content-Type", _TEXT), (b"X-Content-Type-Options", b"nosniff")], f"{text}\n".encode())


def _redirect(to: str) -> Respond:
    return Respond(301, [(b"Location", quote(to).encode())])


class _NodeLogFile:
    """An ASGI application that sends the current content of an open file, and closes the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def __call__(self, _: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        with self._file as file:
            known = os.fstat(file.fileno())
            left = known.st_size
            headers = [
                (b"content-type", _TEXT),
                (b"x-content-type-options", b"nosniff"),
                (b"content-length", str(left).encode()),
                (b"last-modified", formatdate(known.st_mtime, usegmt=True).encode()),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while left and (piece := await asyncio.to_thread(file.read, min(_PIECE, left))):
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            # The file was truncated in between. The connection ends before the body is complete.
            if not left:
                await send({"type": "http.response.body", "body": b""})
