"""The service that pulls images, and its client, over a real Unix socket; the pulls themselves are simulated."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hatchway.images.contents import BadImage, Image, ImageConfig
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pullservice import service, unixsockets
from hatchway.images.pullservice.pullboard import PullBoard
from hatchway.images.pullservice.pullmessages import Pulled, PullFailure, Pulling, PullRequest, decode_answer
from hatchway.images.pullservice.service import PullService
from hatchway.images.pullservice.serviceclient import PullClient
from hatchway.images.reference import parse

PATIENCE = 20.0


class Pulls:
    """Simulated pulls; the test decides when they end. most: the largest number of pulls at the same time so far."""

    def __init__(self) -> None:
        self.begun: list[PullRequest] = []
        self.cancelled: list[PullRequest] = []
        self.released = asyncio.Event()
        self.running = self.most = 0
        self.changed = asyncio.Event()
        self.failure: Exception | None = None

    async def pull(self, request: PullRequest, report: Callable[[int, int], None]) -> Image:
        self.begun.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        self.changed.set()
        report(1, 2)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        finally:
            self.running -= 1
            self.changed.set()
        if self.failure is not None:
            raise self.failure
        return Image("sha256:1", "sha256:2", (), (), (), 77, ImageConfig())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def pulls() -> Pulls:
    return Pulls()


@contextlib.asynccontextmanager
async def serving(path: Path, pulls: Pulls, *, beat: float = PATIENCE) -> AsyncIterator[PullClient]:
    board = PullBoard(
        pulls.pull,
        per_registry=2,
        at_once=3,
        explain=lambda error: str(error) if isinstance(error, OSError) else None,
        beat=beat,
    )
    with unixsockets.listen(path) as sock:
        task = asyncio.create_task(PullService(board).run(sock.dup()))
        try:
            yield PullClient(path, patience=PATIENCE)
        finally:
            task.cancel()
            await asyncio.wait({task})


@contextlib.asynccontextmanager
async def asking(path: Path, wanted: PullRequest) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request; yield an object that reads the answers."""
    reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(path))
    writer.write(wanted.encode())
    try:
        yield reader
    finally:
        writer.close()


def request(image: str, *credentials: Credential) -> PullRequest:
    return PullRequest(parse(image), credentials)


async def test_one_pull_for_all_clients_that_request_the_same_image(tmp_path: Path, pulls: Pulls) -> None:
    async with serving(tmp_path / "s", pulls, beat=0.01) as client:
        secret = Credential("docker.io", "u", "p")
        asked = [request("a"), request("a"), request("a", secret)]
        async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(asking(tmp_path / "s", one)) for one in asked]
            for reader in readers:
                # A client that gets a report of progress still waits for the result.
                assert isinstance(decode_answer(await reader.readline()), Pulling)
            pulls.released.set()
            for reader in readers:
                *_, last = (await reader.read()).splitlines()
                answer = decode_answer(last)
                assert isinstance(answer, Pulled) and (answer.image_id, answer.size) == ("sha256:1", 77)
        # A pull with the secret of one pod is not shared with a pod that does not have the secret.
        assert sorted(len(one.credentials) for one in pulls.begun) == [0, 1]
        await client.pull(request("a"))
        assert len(pulls.begun) == 3


async def test_a_client_that_sends_no_request_gets_an_error(
    tmp_path: Path, pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_REQUEST_SECONDS", 0.05)
    async with serving(tmp_path / "s", pulls), asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(tmp_path / "s"))
        writer.write(b'{"image"')
        answer = decode_answer(await reader.readline())
        writer.close()
    assert isinstance(answer, PullFailure) and answer.message == "no request arrived within 0.05 s"


async def test_only_a_few_pulls_run_at_a_time(tmp_path: Path, pulls: Pulls) -> None:
    async with serving(tmp_path / "s", pulls) as client:
        tasks = [asyncio.create_task(client.pull(request(f"image{number}"))) for number in range(5)]
        await pulls.until(lambda: len(pulls.begun) == 2)
        pulls.released.set()
        await asyncio.gather(*tasks)
        assert pulls.most == 2 and len(pulls.begun) == 5


async def test_a_registry_occupies_only_its_own_pulls(tmp_path: Path, pulls: Pulls) -> None:
    async with serving(tmp_path / "s", pulls) as client:
        slow = [asyncio.create_task(client.pull(request(f"slow.test/image{number}"))) for number in range(4)]
        await pulls.until(lambda: len(pulls.begun) == 2)
        others = [asyncio.create_task(client.pull(request(f"{name}.test/image"))) for name in ("a", "b")]
        # A third pull begins, of another registry; the fourth exceeds the limit of all pulls together.
        await pulls.until(lambda: len(pulls.begun) == 3)
        assert pulls.begun[2].reference.registry in ("a.test", "b.test")
        pulls.released.set()
        await asyncio.gather(*slow, *others)
        assert pulls.most == 3 and len(pulls.begun) == 6


async def test_a_pull_ends_when_no_client_waits_for_it(tmp_path: Path, pulls: Pulls) -> None:
    async with serving(tmp_path / "s", pulls, beat=0.01), asyncio.timeout(PATIENCE):
        async with asking(tmp_path / "s", request("a")) as staying:
            async with asking(tmp_path / "s", request("a")) as leaving:
                assert isinstance(decode_answer(await leaving.readline()), Pulling)
                assert isinstance(decode_answer(await staying.readline()), Pulling)
            for _ in range(5):
                assert isinstance(decode_answer(await staying.readline()), Pulling)
            assert pulls.running == len(pulls.begun) == 1
        await pulls.until(lambda: pulls.cancelled == [request("a")])


async def test_clients_get_the_reason_of_a_failure(tmp_path: Path, pulls: Pulls) -> None:
    pulls.released.set()
    async with serving(tmp_path / "s", pulls) as client:
        for failure in (BadImage("access denied"), OSError("disk full")):
            pulls.failure = failure
            with pytest.raises(BadImage, match=str(failure)):
                await client.pull(request("a"))


async def test_progress_is_reported_while_a_pull_runs(tmp_path: Path, pulls: Pulls) -> None:
    async with serving(tmp_path / "s", pulls, beat=0.01):
        reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(tmp_path / "s"))
        writer.write(request("a").encode())
        async with asyncio.timeout(PATIENCE):
            while decode_answer(await reader.readline()) != Pulling(1, 2):
                pass
            pulls.released.set()
            while not isinstance(answer := decode_answer(await reader.readline()), Pulled):
                pass
            assert await reader.read() == b""
        writer.close()
        assert answer.size == 77


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b'{"image": "A B"}\n', b"{}\n"])
async def test_invalid_requests_are_refused(tmp_path: Path, pulls: Pulls, line: bytes) -> None:
    async with serving(tmp_path / "s", pulls):
        reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(tmp_path / "s"))
        writer.write(line)
        async with asyncio.timeout(PATIENCE):
            assert b"the request cannot be read" in await reader.read()
        writer.close()
        assert pulls.begun == []


async def test_without_a_service_the_client_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="the service that pulls images cannot be reached: No such file"):
        await PullClient(tmp_path / "s").pull(request("a"))
    with unixsockets.listen(tmp_path / "s"), pytest.raises(BadImage, match=r"has not answered for 0\.05 s"):
        await PullClient(tmp_path / "s", patience=0.05).pull(request("a"))


async def test_an_idle_service_ends_after_its_last_client(tmp_path: Path, pulls: Pulls) -> None:
    board = PullBoard(pulls.pull, explain=lambda _: None, beat=0.02)
    with unixsockets.listen(tmp_path / "s") as sock:
        task = asyncio.create_task(PullService(board, idle=0.001).run(sock.dup()))
        reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(tmp_path / "s"))
        writer.write(request("a").encode())
        async with asyncio.timeout(PATIENCE):
            for _ in range(5):
                assert isinstance(decode_answer(await reader.readline()), Pulling)
            assert not task.done()
            pulls.released.set()
            await asyncio.gather(reader.read(), task)
        writer.close()
        # A client that connects after the end waits for the next process.
        waiting = asyncio.create_task(PullClient(tmp_path / "s").pull(request("b")))
        again = asyncio.create_task(PullService(board, idle=0.05).run(sock.dup()))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(waiting, again)


def test_sockets_with_long_paths_are_private(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    for _ in range(2):  # the second time, the socket of a process that was killed is replaced
        with unixsockets.listen(directory / "images.sock") as sock:
            assert stat.S_IMODE((directory / "images.sock").stat().st_mode) == 0o600
            with unixsockets.connect(directory / "images.sock"):
                sock.setblocking(True)
                sock.accept()[0].close()
