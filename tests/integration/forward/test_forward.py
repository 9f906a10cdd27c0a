"""`hatchway forward` as a process, with a server that has a kubelet's streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.conftest import BIN
from tests.integration.forward.pretend import PretendCluster
from tests.unit.route.pods import speaks


@pytest.fixture
async def cluster() -> AsyncIterator[PretendCluster]:
    async with PretendCluster() as found:
        for name in ("a", "b"):
            await found.add_service(f"svc-{name}", name, await found.add_pod(name, speaks(name), app=f"svc-{name}"))
        yield found


def _label(cluster: PretendCluster) -> str:
    return f'context "work" (http://127.0.0.1:{cluster.port})'


class Command:
    """A running `hatchway forward`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode().rstrip()

    async def error(self) -> str:
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), 30)).decode().rstrip()

    async def ports(self) -> list[int]:
        """Return the local ports, once it is ready."""
        found = []
        while (line := await self.line()) != "Ready.":
            assert line, (await self.process.communicate())[1]
            found.append(int(line.partition(" -> ")[0].rpartition(":")[2]))
        return found


@contextlib.asynccontextmanager
async def _command(
    cluster: PretendCluster, tmp_path: Path, name: str, *words: str, program: Sequence[str | Path] = (BIN / "hatchway",)
) -> AsyncIterator[Command]:
    kubeconfig = cluster.write_kubeconfig(tmp_path / "config")
    process = await asyncio.create_subprocess_exec(
        *program, name, "--kubeconfig", kubeconfig, *words,
        stdout=-1, stderr=-1, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                await process.communicate()


def _forward(cluster: PretendCluster, tmp_path: Path, *words: str) -> AbstractAsyncContextManager[Command]:
    return _command(cluster, tmp_path, "forward", *words)


async def _ask(port: int, line: bytes = b"x\n") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line)
    answer = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    return answer


async def test_several_targets_in_one_command(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "svc-a", ":80", "svc/svc-b", ":http") as command:
        first, second = await command.ports()
        assert await _ask(first) == b"a x\n"
        assert await _ask(second) == b"b x\n"
        assert await asyncio.gather(*(_ask(first) for _ in range(50))) == [b"a x\n"] * 50
    assert command.process.returncode == 0
    assert len(cluster.sessions) == 2


async def test_chosen_ports_for_programs(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "svc-a", ":80", "--output", "json") as command:
        text = ""
        while not text.endswith("]"):
            text += await command.line()
        (found,) = json.loads(text)
        assert found["name"] == "svc-a" and await _ask(found["localPort"]) == b"a x\n"
    async with _forward(cluster, tmp_path, "-f", "/dev/stdin", "--output", "env") as command:
        assert "names no target" in await command.error()


async def test_a_file_and_addresses_of_their_own(cluster: PretendCluster, tmp_path: Path) -> None:
    file = tmp_path / "forwards.txt"
    file.write_text("# both\nsvc-a 18080:80\nsvc-b 18080:80\n")
    async with _forward(cluster, tmp_path, "-f", str(file), "--own-address") as command:
        lines = [await command.line(), await command.line()]
        addresses = [re.match(r"Forwarding ([0-9.]+):18080 -> ", line) for line in lines]
        assert all(addresses) and len({found[1] for found in addresses if found}) == 2
        for name, found in zip("ab", addresses, strict=True):
            assert found is not None
            reader, writer = await asyncio.open_connection(found[1], 18080)
            writer.write(b"x\n")
            assert await reader.readline() == f"{name} x\n".encode()
            writer.close()


async def test_connections_go_on_after_the_api_server_has_cut_all(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "svc-a", ":80") as command:
        (port,) = await command.ports()
        assert await _ask(port) == b"a x\n"
        cluster.cut()
        # A connection over the ended session may be reset; the next one works.
        with contextlib.suppress(ConnectionResetError):
            await _ask(port)
        assert await _ask(port) == b"a x\n"
        assert command.process.returncode is None


async def test_a_change_of_the_cluster_in_the_kubeconfig_is_followed(cluster: PretendCluster, tmp_path: Path) -> None:
    async with PretendCluster() as other, _forward(cluster, tmp_path, "svc-a", ":80") as command:
        await other.add_service("svc-a", "other", await other.add_pod("other", speaks("other"), app="svc-a"))
        (port,) = await command.ports()
        assert await _ask(port) == b"a x\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"1\n")
        assert await reader.readline() == b"a 1\n"
        other.write_kubeconfig(tmp_path / "config")
        assert await command.error() == (
            f'Now forwarding to context "work" (http://127.0.0.1:{other.port}): the kubeconfig has changed'
        )
        assert await _ask(port) == b"other x\n"
        # A connection that was opened before continues with its pod.
        writer.write(b"2\n")
        assert await reader.readline() == b"a 2\n"
        writer.close()


async def test_a_client_that_does_not_read_holds_up_no_new_connection_to_its_pod(
    cluster: PretendCluster, tmp_path: Path
) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    await cluster.add_service("flood", "a", server.sockets[0].getsockname()[1])
    async with _forward(cluster, tmp_path, "svc-a", ":80", "svc/flood", ":80") as command:
        port, flooded = await command.ports()
        reader, writer = await asyncio.open_connection("127.0.0.1", flooded, limit=1)
        await reader.read(1)
        # Like a kubelet, the server has no flow control: data that the client does not read fills the session up to
        # its limit.
        for _ in range(5):
            assert await _ask(port) == b"a x\n"
            await asyncio.sleep(0.2)
        assert len(cluster.sessions) >= 2
        writer.transport.abort()
    server.close()


async def test_the_error_of_a_missing_target_lists_the_existing_ones(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "svc-c", "80") as command:
        assert await command.error() == f"hatchway: there is no svc/svc-c in namespace shop in {_label(cluster)}"
        assert "svc-a" in await command.error()
        assert await command.process.wait() == 1


async def test_a_missing_right_is_named_with_its_rule(cluster: PretendCluster, tmp_path: Path) -> None:
    cluster.world.client.denied.add(("create", "pods/portforward"))
    async with _forward(cluster, tmp_path, "svc-a", "80", "--wait") as command:
        assert await command.error() == (
            'hatchway: svc/svc-a:http: you may not create pods/portforward in namespace "shop"'
        )
        _, errors = await command.process.communicate()
        assert b'resources: ["pods/portforward"]' in errors and command.process.returncode == 1


async def test_with_wait_the_command_waits_for_a_missing_target(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "late", ":80", "--wait") as command:
        assert await command.error() == f"waiting: there is no svc/late in namespace shop in {_label(cluster)}"
        await cluster.add_service("late", "c", await cluster.add_pod("c", speaks("c"), app="late"))
        (local,) = await command.ports()
        assert await _ask(local) == b"c x\n"


# Runs the command line, and waits only half a second (usually many seconds) for a pod to become ready.
_IMPATIENT = """
from hatchway.cli import main
from hatchway.forward import forwarder
from hatchway.socks import listener
forwarder._PATIENCE = listener._PATIENCE = 0.5
main()
"""


@pytest.mark.parametrize("words", [("forward", "svc-a", ":80"), ("socks", "--port", "0")])
async def test_the_text_of_a_kubelet_is_shown_as_one_line(
    cluster: PretendCluster, tmp_path: Path, words: tuple[str, ...]
) -> None:
    message = "bad \x1b]0;pwned\x07\nhatchway: all well\r" + "x" * 8000
    status = {"kind": "Status", "status": "Failure", "message": message, "reason": "InternalError", "code": 500}
    for method in ("GET", "POST"):
        cluster.refusals[method, "/portforward"] = (500, json.dumps(status).encode())
    async with _command(cluster, tmp_path, *words, program=(sys.executable, "-c", _IMPATIENT)) as command:
        first = await command.line()
        number = re.findall(r"127\.0\.0\.1:([0-9]+)", first)[-1]
        _, writer = await asyncio.open_connection("127.0.0.1", int(number))
        writer.write(b"GET http://svc-a.shop/ HTTP/1.1\r\nHost: svc-a.shop\r\n\r\n")
        said = await command.error()
        writer.close()
    assert "bad ?]0;pwned??hatchway: all well?xxx" in said
    assert len(said) < 4200 and said.isprintable()


async def test_in_the_background_it_is_listed_and_stopped(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "svc-a", ":80", "--detach") as command:
        (output, errors) = await asyncio.wait_for(command.process.communicate(), 30)
        assert command.process.returncode == 0, errors
    found = re.match(rb"Forwarding 127.0.0.1:(\d+) -> .*\nReady. `hatchway forward --stop (\d+)` ends it.\n", output)
    assert found is not None, output
    try:
        assert await _ask(int(found[1])) == b"a x\n"
        async with _forward(cluster, tmp_path, "--list") as listing:
            text, _ = await listing.process.communicate()
            assert [line.split()[0] for line in text.splitlines()] == [b"ID", found[2]]
        async with _forward(cluster, tmp_path, "--list", "-o", "env") as listing:
            text, _ = await listing.process.communicate()
            assert b"SVC_A_SERVICE_PORT=" + found[1] in text.splitlines()
    finally:
        async with _forward(cluster, tmp_path, "--stop", "all") as stop:
            text, errors = await stop.process.communicate()
    assert stop.process.returncode == 0 and found[2] in text, errors
    with pytest.raises(OSError):
        await _ask(int(found[1]))


async def _in_background(tmp_path: Path, *words: str) -> bytes:
    """Run `hatchway forward` with an option that needs no cluster; return its output."""
    process = await asyncio.create_subprocess_exec(
        BIN / "hatchway", "forward", *words, stdout=-1, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    )
    return (await asyncio.wait_for(process.communicate(), 30))[0]


async def test_the_list_says_when_the_cluster_is_away(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_in_background, tmp_path, "--stop", "all")
        async with PretendCluster() as cluster:
            await cluster.add_service("svc-a", "a", await cluster.add_pod("a", speaks("a"), app="svc-a"))
            async with _forward(cluster, tmp_path, "svc-a", ":80", "--detach") as command:
                _, errors = await asyncio.wait_for(command.process.communicate(), 30)
                assert command.process.returncode == 0, errors
            assert b"running" in await _in_background(tmp_path, "--list")
        listed = b""
        async with asyncio.timeout(60):
            while b"cluster is away" not in listed:
                listed = await _in_background(tmp_path, "--list")
        (record,) = json.loads(await _in_background(tmp_path, "--list", "-o", "json"))
        assert [bool(one["clusterAway"]) for one in record["forwards"]] == [True]


async def test_in_the_background_the_reason_of_a_failure_is_printed(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "nothing", ":80", "--detach") as command:
        _, errors = await command.process.communicate()
    assert command.process.returncode == 1
    assert errors.startswith(b"hatchway: there is no svc/nothing in namespace shop")


async def test_all_services_are_forwarded_including_later_ones(cluster: PretendCluster, tmp_path: Path) -> None:
    async with _forward(cluster, tmp_path, "--all", "--own-address") as command:
        await command.ports()
        await cluster.add_service("late", "c", await cluster.add_pod("c", speaks("c"), app="late"))
        line = await command.line()
        found = re.match(r"Forwarding ([0-9.]+):(\d+) -> svc/late:http \(port 80\) in namespace shop", line)
        assert found is not None, line
        reader, writer = await asyncio.open_connection(found[1], int(found[2]))
        writer.write(b"x\n")
        assert await reader.readline() == b"c x\n"
        await cluster.world.client.delete("services", "late", "shop")
        assert await command.line() == f"No longer forwarding {found[1]}:{found[2]} -> svc/late:http: it is gone"
        # Open connections continue; new ones are not accepted.
        writer.write(b"y\n")
        assert await reader.readline() == b"c y\n"
        writer.close()
        with pytest.raises(OSError):
            await asyncio.open_connection(found[1], int(found[2]))


async def test_with_another_format_later_services_are_printed_to_standard_error(
    cluster: PretendCluster, tmp_path: Path
) -> None:
    async with _forward(cluster, tmp_path, "--all", "--output", "env") as command:
        assert (await command.line()).startswith("SVC_A_SERVICE_HOST=")
        await cluster.add_service("late", "c", await cluster.add_pod("c", speaks("c"), app="late"))
        assert "-> svc/late:http" in await command.error()


async def test_in_the_background_the_list_shows_services_that_came_later(
    cluster: PretendCluster, tmp_path: Path
) -> None:
    async with _forward(cluster, tmp_path, "--all", "--detach") as command:
        _, errors = await asyncio.wait_for(command.process.communicate(), 30)
        assert command.process.returncode == 0, errors
    try:
        await cluster.add_service("late", "c", await cluster.add_pod("c", speaks("c"), app="late"))
        names: set[str] = set()
        async with asyncio.timeout(30):
            while "late" not in names:
                async with _forward(cluster, tmp_path, "--list", "--output", "json") as listing:
                    (record,) = json.loads((await listing.process.communicate())[0])
                names = {one["name"] for one in record["forwards"]}
        assert names == {"svc-a", "svc-b", "late"}
    finally:
        async with _forward(cluster, tmp_path, "--stop", "all") as stop:
            await stop.process.communicate()
    assert not list((tmp_path / "hatchway-forward").iterdir())
