"""Copies files into a container: an archive is written on this machine, and the container's `tar` extracts it."""

from __future__ import annotations

import asyncio
import functools
import os
import posixpath
import stat
import time
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from hatchway.errors import HatchwayError
from hatchway.kube.streams.remotecommand import RemoteCommand
from hatchway.remote import archive
from hatchway.remote.archive import Entry
from hatchway.remote.copying import (
    Container,
    CopyProgress,
    ErrorText,
    Interrupted,
    ReportProgress,
    Warn,
    failure,
    is_directory,
    is_there,
    repeat_interrupted,
)
from hatchway.remote.outcome import is_missing_command
from hatchway.remote.resuming import LARGE, begins_alike, is_complete, list_tree, names_copy
from hatchway.wire.channels import STDERR, CommandResult

_SIZE_OF: Final = 'wc -c <"$1"'
_APPEND: Final = 'cat >>"$1"'
_FINISH: Final = 'chmod "$2" "$1" && TZ=UTC0 touch -t "$3" "$1"'


async def upload(
    container: Container,
    source: str,
    destination: str,
    report: ReportProgress,
    warn: Warn,
    *,
    resume: bool = False,
) -> CopyProgress:
    """Copy a file or a directory into a container.

    Args:
        container: the container that gets the copy.
        source: a path on this machine.
        destination: an existing directory in the container, in which the copy gets the source's name; or the path of
            the copy.
        report: called with the progress from time to time.
        warn: called with a sentence about each file that is left out.
        resume: True to continue an interrupted copy; complete files are not copied again.
    Returns:
        The progress at the end.
    Raises:
        HatchwayError: the copy has failed. Files that were already copied are not removed.
    """
    if not os.path.lexists(source):
        raise HatchwayError(f"there is no {source} on this machine")
    own_name = os.path.basename(os.path.abspath(source))
    into = destination.endswith("/") or await is_directory(container, destination)
    if into and resume and names_copy(destination) and os.path.isdir(source):
        # This directory may be the result of an earlier, interrupted copy.
        into = await is_directory(container, posixpath.join(destination, own_name))
    directory, name = (destination, "") if into else posixpath.split(destination)
    name = name or own_name
    entries = list(archive.walk(source, f"./{name}", warn))
    return await _Upload(container, directory or ".", entries, report, warn).run(resume=resume)


class _Upload:
    """One copy. Entries before the index `_done`, and entries whose index is in `_complete`, are already copied."""

    def __init__(
        self, container: Container, directory: str, entries: Sequence[Entry], report: ReportProgress, warn: Warn
    ) -> None:
        self._container = container
        self._directory = directory
        self._entries = entries
        self._report = report
        self._warn = warn
        self._progress = CopyProgress(total=sum(entry.size for entry in entries))
        self._done = 0
        self._complete: set[int] = set()

    async def run(self, *, resume: bool) -> CopyProgress:
        """Copy, and return the progress at the end."""
        if resume:
            await self._find_complete()

        async def attempt() -> tuple[CommandResult, ErrorText]:
            errors = ErrorText()
            if self._progress.size:
                await self._finish_broken()
            return await self._attempt(errors), errors

        result, errors = await repeat_interrupted(self._container, attempt, lambda: (self._done, self._progress.size))
        if is_missing_command(result):
            await self._without_tar()
        elif result.exit_code != 0:
            raise failure(self._container.pod_container, f"cannot write to {self._directory}", result, errors)
        self._progress.files = sum(not stat.S_ISDIR(entry.info.st_mode) for entry in self._entries)
        self._progress.files -= self._progress.complete
        return self._progress

    async def _find_complete(self) -> None:
        """Find out which files are already in the container, and complete files whose beginning is there."""
        there = await list_tree(self._container, self._directory, self._entries[0].name)
        if there is None:
            path = posixpath.join(self._directory, self._entries[0].name)
            if await is_there(self._container, path):
                self._warn(f"cannot find out which files of {path} are there already, so all are copied")
            return
        for index, entry in enumerate(self._entries):
            if is_complete(there.get(entry.name), entry.info):
                self._complete.add(index)
        self._progress.complete = len(self._complete)
        for index, entry in enumerate(self._entries):
            found = there.get(entry.name)
            if index not in self._complete and found is not None and found.is_regular and found.size:
                finish = functools.partial(self._finish, index)
                if await repeat_interrupted(self._container, finish, lambda: self._progress.size):
                    self._complete.add(index)

    async def _attempt(self, errors: ErrorText) -> CommandResult:
        """Send the entries that are not copied yet.

        Directories and links are sent again in each attempt: tar sets the times of directories,
        and makes links that lead out of the tree, only at the end of an archive.
        """
        plan = [
            index
            for index, entry in enumerate(self._entries)
            if not stat.S_ISREG(entry.info.st_mode) or (index >= self._done and index not in self._complete)
        ]
        self._progress.size = self._size_of_done()
        running = await self._container.open(["tar", "xpvf", "-", "-C", self._directory], stdin=True)
        names = _Names()
        receiving = asyncio.create_task(_receive(running, names, errors), name="tar's output")
        try:
            try:
                if not running.can_end_input:
                    raise HatchwayError(
                        f"{self._container.pod_container}: this API server cannot end a command's input",
                        "copying needs an API server that supports v5.channel.k8s.io or SPDY",
                    )
                await self._send(running, [self._entries[index] for index in plan])
                running.end_input()
            except BrokenPipeError:
                pass  # tar has ended early, and its standard error has the reason
            await receiving
            try:
                return await running.result()
            except OSError as error:
                raise Interrupted(str(error)) from error
        except Interrupted:
            if names.begun:
                self._done = max(self._done, plan[min(names.begun, len(plan)) - 1])
            raise
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
            running.close()

    async def _send(self, running: RemoteCommand, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._progress.current = entry.path
            await running.write(archive.header(entry))
            await self._send_content(running, archive.content(entry))
            if rest := archive.padding(entry):
                await running.write(rest)
            self._progress.files += not stat.S_ISDIR(entry.info.st_mode)
        await running.write(archive.end())

    async def _send_content(self, running: RemoteCommand, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            await running.write(piece)
            self._progress.size += len(piece)
            self._report(self._progress)

    def _size_of_done(self) -> int:
        return sum(
            entry.size for index, entry in enumerate(self._entries) if index < self._done or index in self._complete
        )

    async def _finish_broken(self) -> None:
        """Finish the file during which the connection was lost, if its part in the container is correct.

        Raises Interrupted.
        """
        if self._done < len(self._entries) and self._done not in self._complete and await self._finish(self._done):
            self._done += 1

    async def _finish(self, index: int) -> bool:
        """Send the rest of a large file. Return False if the part in the container may not be its beginning.

        Raises:
            Interrupted: the connection was lost.
        """
        entry = self._entries[index]
        if entry.size < LARGE:
            return False
        path = posixpath.join(self._directory, entry.name)
        there = await self._checked_size(path, entry)
        if not there:
            return False
        self._progress.size = self._size_of_done() + there
        self._progress.current = entry.path
        if there < entry.size:
            running = await self._container.open(["sh", "-c", _APPEND, "sh", path], stdin=True)
            try:
                await self._send_content(running, archive.content(entry, there))
                running.end_input()
                result = await running.result()
            except OSError as error:
                raise Interrupted(str(error)) from error
            finally:
                running.close()
            if result.exit_code != 0:
                return False
        mode, when = f"{stat.S_IMODE(entry.info.st_mode):o}", time.gmtime(int(entry.info.st_mtime))
        stamp = time.strftime("%Y%m%d%H%M.%S", when)
        result, _ = await self._container.ask(["sh", "-c", _FINISH, "sh", path, mode, stamp])
        return result.exit_code == 0

    async def _checked_size(self, path: str, entry: Entry) -> int:
        """Return how many bytes of a file are in the container and correct; 0 when that is not known."""
        result, output = await self._container.ask(["sh", "-c", _SIZE_OF, "sh", path])
        text = output.strip()
        if result.exit_code != 0 or not text.isdigit() or len(text) > 18:
            return 0
        size = int(text)
        if not 0 < size <= entry.size:
            return 0

        def open_here() -> BinaryIO:
            return open(entry.path, "rb")

        try:
            alike = await begins_alike(self._container, path, size, open_here)
        except OSError as error:
            raise HatchwayError(f"cannot read {entry.path}: {error.strerror}") from error
        return size if alike else 0

    async def _without_tar(self) -> None:
        """Copy one file by `cat` or `dd`. Raises HatchwayError."""
        pod_container = self._container.pod_container
        if len(self._entries) != 1 or not stat.S_ISREG(self._entries[0].info.st_mode):
            raise HatchwayError(f"{pod_container} has no tar, which copying directories and links needs")
        entry = self._entries[0]
        path = posixpath.join(self._directory, entry.name)
        for command in (["sh", "-c", 'cat >"$1"', "sh", path], ["dd", f"of={path}"]):
            errors = ErrorText()
            self._progress.size = 0
            running = await self._container.open(command, stdin=True)
            receiving = asyncio.create_task(_receive(running, _Names(), errors), name="the command's output")
            try:
                try:
                    await self._send_content(running, archive.content(entry))
                    running.end_input()
                except BrokenPipeError:
                    pass  # the command has ended early, and its standard error has the reason
                await receiving
                result = await running.result()
            except OSError as error:
                raise HatchwayError(f"{pod_container}: the connection was lost: {error}") from error
            finally:
                receiving.cancel()
                await asyncio.wait([receiving])
                running.close()
            if is_missing_command(result):
                continue
            if result.exit_code != 0:
                raise failure(pod_container, f"cannot write {path}", result, errors)
            self._warn(f"{path} was copied without its mode and its time: the container has no tar")
            return
        raise HatchwayError(f"{pod_container} has neither tar nor sh nor dd, which copying files needs")


class _Names:
    """Counts the names that tar prints: tar prints the name of each member when it begins to extract the member."""

    def __init__(self) -> None:
        self.begun = 0

    def add(self, data: bytes) -> None:
        self.begun += data.count(b"\n")


async def _receive(running: RemoteCommand, names: _Names, errors: ErrorText) -> None:
    while (piece := await running.receive()) is not None:
        channel, data = piece
        if channel == STDERR:
            errors.add(data)
        else:
            names.add(data)
