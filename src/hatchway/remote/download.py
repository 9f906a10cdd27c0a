"""Copies files out of a container: the container's `tar` writes an archive, whose safe members are extracted here."""

from __future__ import annotations

import functools
import os
import posixpath
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from hatchway.errors import HatchwayError
from hatchway.remote.copying import (
    Container,
    CopyProgress,
    ErrorText,
    Interrupted,
    ReportProgress,
    Warn,
    failure,
    is_directory,
    repeat_interrupted,
)
from hatchway.remote.extraction import Extraction
from hatchway.remote.outcome import is_missing_command
from hatchway.remote.resuming import (
    DownloadPlan,
    RemoteFile,
    batches,
    begins_alike,
    list_tree,
    names_copy,
    plan_download,
)
from hatchway.remote.tarstream import Kind, Member, TarError, TarReader
from hatchway.wire.channels import STDERR, CommandResult

# After an interruption, this many of the last bytes are requested again, to check that they have not changed.
_OVERLAP: Final = 64 * 1024
_RESUMED: Final = 'start=$1; shift; tar cf - "$@" | tail -c "+$start"'


async def download(
    container: Container,
    source: str,
    destination: str,
    report: ReportProgress,
    warn: Warn,
    *,
    resume: bool = False,
) -> CopyProgress:
    """Copy a file or a directory out of a container.

    Args:
        container: the container with the file or directory.
        source: the path in the container; a relative path begins at the container's working directory.
        destination: the path of the copy; or an existing directory, in which the copy gets the source's name.
        report: called with the progress from time to time.
        warn: called with a message about each file that is left out.
        resume: True to continue an interrupted copy; complete files are not copied again.
    Returns:
        The progress at the end.
    Raises:
        HatchwayError: the copy has failed. Files that were already copied are not removed.
    """
    directory, base = split_remote(source)
    into = os.path.isdir(destination) or destination.endswith("/")
    if into and resume and names_copy(destination):
        # The destination may be the incomplete copy of an earlier run, which is then continued.
        inside = os.path.join(destination, posixpath.basename(base))
        into = os.path.lexists(inside) or not await is_directory(container, source)
    if into and base != ".":
        parent, name = destination, posixpath.basename(base)
    else:
        parent, name = os.path.split(os.path.abspath(destination))
    if not name:
        raise HatchwayError(f"cannot copy {source} to {destination}", "name a directory for it")
    try:
        extraction = Extraction(parent, name, posixpath.basename(base), warn)
    except OSError as error:
        raise HatchwayError(f"cannot write to {parent}: {error.strerror}") from error
    try:
        return await _Download(container, directory, base, extraction, report).run(source, resume=resume)
    except OSError as error:
        raise HatchwayError(f"cannot write {extraction.current or destination}: {error.strerror or error}") from error
    except TarError as error:
        raise HatchwayError(f"{container.pod_container}: {error}") from error
    finally:
        extraction.close()


def split_remote(path: str) -> tuple[str, str]:
    """Return (directory, name) of a path in a container. The name is "." for paths without a name (/, `.`, `..`)."""
    whole = posixpath.normpath(path)
    directory, base = posixpath.split(whole)
    if base in ("", ".", ".."):
        return whole, "."
    # `tar` would read a name that begins with a hyphen as an option.
    return directory or ".", f"./{base}" if base.startswith("-") else base


class _Download:
    def __init__(
        self, container: Container, directory: str, base: str, extraction: Extraction, report: ReportProgress
    ) -> None:
        self._container = container
        self._directory = directory
        self._base = base
        self._extraction = extraction
        self._report = report
        self._reader = TarReader()
        self._recent: deque[bytes] = deque()
        self._recent_size = 0
        self._complete = 0

    async def run(self, source: str, *, resume: bool) -> CopyProgress:
        """Copy, and return the progress at the end. source: the user's spelling, for errors."""
        plan = await self._plan() if resume else None
        if plan is None:
            await self._take_archive(["-C", self._directory, self._base], source)
        else:
            await self._take_rest(plan, source)
        if self._extraction.root_link:
            await self._follow(source)
        self._extraction.finish()
        return self._progress()

    async def _follow(self, source: str) -> None:
        """Copy the target of a source that is a symbolic link, under the source's name. Raises HatchwayError."""
        self._extraction.root_link = ""
        if await is_directory(self._container, source):
            # Only the source itself is followed; links below it are copied as links.
            await self._take_archive(["-C", self._directory, f"{self._base}/."], source)
        else:
            await self._take_archive(["-h", "-C", self._directory, self._base], source)
        if where := self._extraction.root_link:
            raise HatchwayError(f"{self._container.pod_container}: cannot follow {source}, a link to {where}")

    async def _plan(self) -> DownloadPlan | None:
        """Return the files that are missing in the local copy; None when all files must be copied."""
        there = await list_tree(self._container, self._directory, self._base)
        if there is None:
            self._extraction.warn(f"cannot find out which files of {self._base} are here already, so all are copied")
            return None
        plan = plan_download(there, ((path, self._extraction.find(path)) for path in there))
        return plan if plan.complete or plan.partial or plan.single else None

    async def _take_rest(self, plan: DownloadPlan, source: str) -> None:
        self._complete = plan.complete
        single = list(plan.single)
        for path, remote in plan.partial:
            finish = functools.partial(self._finish_file, path, remote)
            done = await repeat_interrupted(self._container, finish, lambda: self._extraction.size)
            if not done:
                single.append(path)
        for names in batches(plan.trees):
            await self._take_archive(["-C", self._directory, *names], source)
        for names in batches(single):
            await self._take_archive(["-C", self._directory, "--no-recursion", *names], source)

    async def _finish_file(self, path: str, remote: RemoteFile) -> bool:
        """Copy the rest of a large file. Return False when the whole file must be copied instead.

        Raises:
            Interrupted: the connection was lost.
        """
        extraction, whole = self._extraction, posixpath.join(self._directory, path)
        found = extraction.find(path)
        if found is None or found.st_size > remote.size:
            return False
        here = functools.partial(extraction.open_existing, path)
        if not await begins_alike(self._container, whole, found.st_size, here):
            return False
        member = Member(path, Kind.FILE, stat.S_IMODE(remote.mode), remote.mtime * 1_000_000_000, remote.size)
        size = extraction.append(member)
        try:
            if size < remote.size:

                def take(data: bytes) -> None:
                    nonlocal size
                    size += len(data)
                    extraction.write(memoryview(data))
                    self._report(self._progress())

                result = await self._receive(["tail", "-c", f"+{size + 1}", whole], ErrorText(), take)
                if result.exit_code or size != remote.size:
                    return False  # the file has changed since the first copy, or the container has no `tail`
            extraction.end()
        finally:
            extraction.break_off()
        return True

    async def _take_archive(self, arguments: list[str], source: str) -> None:
        """Unpack the archive that `tar` writes with these arguments. Raises HatchwayError."""
        self._reader = TarReader()
        self._recent.clear()
        self._recent_size = 0

        async def attempt() -> tuple[CommandResult, ErrorText]:
            errors = ErrorText()
            return await self._attempt(arguments, errors), errors

        result, errors = await repeat_interrupted(self._container, attempt, lambda: self._reader.taken)
        if is_missing_command(result):
            await self._without_tar(source)
        elif not self._reader.ended or result.exit_code:
            self._extraction.finish()
            raise failure(self._container.pod_container, f"cannot read {source}", result, errors)

    async def _attempt(self, arguments: list[str], errors: ErrorText) -> CommandResult:
        taken = self._reader.taken
        if not taken:
            return await self._receive(["tar", "cf", "-", *arguments], errors, self._take)
        start = taken - self._recent_size
        command = ["sh", "-c", _RESUMED, "sh", str(start + 1), *arguments]
        known = b"".join(self._recent)

        def compare(data: bytes) -> None:
            nonlocal known
            if known:
                if data[: len(known)] != known[: len(data)]:
                    raise HatchwayError(
                        f"{self._container.pod_container}: the files have changed while they were copied",
                        "copy them again",
                    )
                known, data = known[len(data) :], data[len(known) :]
            if data:
                self._take(data)

        return await self._receive(command, errors, compare)

    async def _receive(self, command: list[str], errors: ErrorText, take: Callable[[bytes], None]) -> CommandResult:
        running = await self._container.open(command)
        try:
            while True:
                try:
                    piece = await running.receive()
                    if piece is None:
                        return await running.result()
                except OSError as error:
                    raise Interrupted(str(error)) from error
                channel, data = piece
                if channel == STDERR:
                    errors.add(data)
                else:
                    take(data)
        finally:
            running.close()

    def _take(self, data: bytes) -> None:
        self._recent.append(data)
        self._recent_size += len(data)
        while self._recent_size - len(self._recent[0]) >= _OVERLAP:
            self._recent_size -= len(self._recent.popleft())
        extraction = self._extraction
        for event in self._reader.feed(data):
            if isinstance(event, Member):
                extraction.begin(event)
            elif event is None:
                extraction.end()
            else:
                extraction.write(event)
        self._report(self._progress())

    def _progress(self) -> CopyProgress:
        extraction = self._extraction
        return CopyProgress(extraction.size, extraction.files, extraction.current, complete=self._complete)

    async def _without_tar(self, source: str) -> None:
        """Copy the content of one file by `cat`. Raises HatchwayError."""
        errors = ErrorText()
        extraction = self._extraction
        extraction.begin(Member(posixpath.basename(self._base), Kind.FILE, 0o644, time.time_ns(), 0))

        def take(data: bytes) -> None:
            extraction.write(memoryview(data))
            self._report(self._progress())

        try:
            result = await self._receive(["cat", "--", source], errors, take)
        except Interrupted as error:
            raise HatchwayError(f"{self._container.pod_container}: the connection was lost: {error}") from error
        extraction.end()
        if is_missing_command(result):
            raise HatchwayError(f"{self._container.pod_container} has neither tar nor cat, which copying files needs")
        if result.exit_code:
            hint = "directories are copied with tar, which the container does not have"
            raise HatchwayError(f"{self._container.pod_container}: cannot read {source}: {errors}", hint)
        extraction.warn(f"{source} was copied without its mode and its time: the container has no tar")
