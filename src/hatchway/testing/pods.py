"""Logs of pods, and commands in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.streams.remotecommand import RemoteCommand, StreamOptions
from hatchway.kube.workload import find_pods, parse_workload
from hatchway.remote.outcome import describe
from hatchway.remote.podcontainer import explain_refusal, find_pod_container
from hatchway.remote.podlogs import LogFollower, LogOptions
from hatchway.testing.problems import ClusterError
from hatchway.testing.session import ClusterSession
from hatchway.wire.channels import STDERR

# How many bytes of input are written at once.
_PIECE = 32 * 1024


async def read_logs(
    session: ClusterSession, target: str, namespace: str, container: str, tail: int | None, previous: bool
) -> str:
    """Return the logs of all pods of a target, one after the other. Raises HatchwayError."""
    pods = await find_pods(session.client, parse_workload(target, None, namespace))
    pieces: list[bytes] = []
    options = LogOptions(container=container, previous=previous, tail=tail)
    follower = LogFollower(
        session.client, pods, options, lambda _source, piece, _begins: pieces.append(piece), lambda _text: None
    )
    await follower.print_once()
    return b"".join(pieces).decode(errors="replace")


async def run_command(
    session: ClusterSession, target: str, namespace: str, container: str, command: Sequence[str], given: str | None
) -> tuple[int, str, str]:
    """Run a command in a container; return (exit code, standard output, standard error). Raises HatchwayError."""
    client = session.client
    chosen = await find_pod_container(client, parse_workload(target, None, namespace), container)
    options = StreamOptions(chosen.container, stdin=given is not None)
    try:
        remote = await RemoteCommand.exec(session.connection, chosen.namespace, chosen.name, list(command), options)
    except ApiError as error:
        raise await explain_refusal(error, str(chosen), "exec", client, chosen.namespace) from error
    feeding = None if given is None else asyncio.create_task(_feed(remote, given.encode()), name="input")
    try:
        out: list[bytes] = []
        err: list[bytes] = []
        while (piece := await remote.receive()) is not None:
            channel, data = piece
            (err if channel == STDERR else out).append(data)
        code, message = describe(await remote.result())
    except OSError as error:
        raise HatchwayError(f"{chosen}: the connection broke off while the command ran: {error}") from error
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.wait([feeding])
        # The socket must be closed before the event loop.
        remote.abort()
    if message:
        raise ClusterError(f"{chosen}: {message}")
    return code, b"".join(out).decode(errors="replace"), b"".join(err).decode(errors="replace")


async def _feed(remote: RemoteCommand, given: bytes) -> None:
    """Write a command's input, and end it. A command may end before it has read its input."""
    with contextlib.suppress(BrokenPipeError):
        for begin in range(0, len(given), _PIECE):
            await remote.write(given[begin : begin + _PIECE])
        if remote.can_end_input:
            remote.end_input()
