"""Containers that attack processes that are started in them; the descriptors that init keeps."""

# ruff: noqa: ASYNC110  conditions change in other processes

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from hatchway.cluster.runtime import ContainerProcess, Mount, Runtime, Sandbox, Sharing, StartError
from tests.integration.network.inside import config, run, sandbox, shell, start_error
from tests.integration.network.sharing import shared

# In its own mount namespace, a container can mount anything over /proc, to which a process writes when it starts.
_OWN_MOUNTS = "readlink /proc/self/ns/mnt; exec unshare -Urm sh -c 'mount -t tmpfs x /proc; mkdir /proc/self; %s'"
_REPLACED = {"file": ": >/proc/self/oom_score_adj", "pipe": "mkfifo /proc/self/oom_score_adj"}

# Stops every other process that it sees, without end; records their command lines.
_STOPPER = """
import os, signal
seen = open("/seen/lines", "w")
print("stops", flush=True)
while True:
    try:
        os.kill(-1, signal.SIGSTOP)
    except ProcessLookupError:
        continue
    for name in os.listdir("/proc"):
        try:
            line = open(f"/proc/{name}/cmdline").read() if name.isdigit() and name != "1" else ""
        except OSError:
            continue
        # A process that has ended has none at all.
        if line:
            print(repr(line.strip(chr(0))), file=seen, flush=True)
"""
_ATTEMPTS = 50


async def _until_printed(where: Sandbox, argv: list[str], wanted: str, **more: Any) -> tuple[ContainerProcess, str]:
    """Start a container; when it has printed `wanted`, return it and its output until then."""
    reading, writing = os.pipe()
    process = await where.start(config(argv, writing, **more))
    os.close(writing)
    text = ""
    while wanted not in text:
        data = await asyncio.to_thread(os.read, reading, 1000)
        assert data, text
        text += data.decode()
    os.close(reading)
    return process, text.partition(wanted)[0]


async def own_mounts(runtime: Runtime, directory: Path) -> Any:
    """Start processes in containers that have changed their mount namespace; return what the processes see."""
    found: dict[str, Any] = {}
    places = {"alone": await sandbox(runtime), "shared": await shared(runtime, "s", 1, Sharing(processes="pod"))}
    for place, pod in places.items():
        for kind, replace in _REPLACED.items():
            script = _OWN_MOUNTS % f"{replace} && echo replaced && exec sleep 1000"
            name = f"{kind} {place}"
            container, own = await _until_printed(pod, ["sh", "-c", script], "replaced\n", name=name)
            look = "cat /proc/self/oom_score_adj; readlink /proc/self/ns/mnt"
            code, output = await shell(pod, look, container, oom_score=777)
            found[name] = [code, output.replace(own, "as started\n")]
            container.kill(signal.SIGKILL)
            await container.wait()
    return found


async def stopped_starts(runtime: Runtime, directory: Path) -> Any:
    """Start processes in a container that sends SIGSTOP to them before their program runs.

    Returns the error of the start, the result of a process in another pod, the signal that has ended the container, and
    the command lines of the stopped processes that the container saw.
    """
    pod = await sandbox(runtime)
    seen = directory / "seen"
    seen.mkdir()
    mounts = [Mount(str(seen), "/seen")]
    container, _ = await _until_printed(pod, ["python3", "-c", _STOPPER], "stops\n", mounts=mounts)
    for _ in range(_ATTEMPTS):
        try:
            # The container may stop the process only after its program has begun.
            process = await pod.exec(container, config(["sleep", "1000"], 2))
        except StartError as error:
            message = str(error)
            break
        process.kill(signal.SIGKILL)
        await process.wait()
    else:
        message = "never stopped in time"
    # Wait until the node's PID namespace has no stopped process.
    node = await shared(runtime, "node", 1, Sharing(processes="node"))
    while (await shell(node, "cat /proc/[0-9]*/stat | grep -c ') [Tt] '", name="counts"))[1].strip() != "0":
        await asyncio.sleep(0.01)
    others = await run(await sandbox(runtime, "other"), ["echo", "runs"])
    container.kill(signal.SIGKILL)
    ended = (await container.wait()).signal
    return [message, others, ended, sorted(set((seen / "lines").read_text().splitlines()))]


async def kept_descriptors(runtime: Runtime, directory: Path) -> Any:
    """Start and end containers in two rounds, with the number N.

    Write the file `N.all` when one container is left in each pod, and `N.none` when none is left. After each file, wait
    until the test has removed it.
    """

    async def tell(name: str) -> None:
        (directory / name).touch()
        while (directory / name).exists():
            await asyncio.sleep(0.01)

    pods = [await sandbox(runtime), await shared(runtime, "sharing", 1, Sharing(processes="pod"))]
    for number in range(2):
        running = []
        for pod in pods:
            for _ in range(3):
                container = await pod.start(config(["sleep", "1000"], 2))
                joined = await pod.start(config(["sleep", "1000"], 2, name="joined", processes_of=container))
                await shell(pod, "exit 3", container)
                for one in (joined, container):
                    one.kill(signal.SIGKILL)
                    await one.wait()
                await start_error(pod, ["no-such-program"])
            running.append(await pod.start(config(["sleep", "1000"], 2)))
        await tell(f"{number}.all")
        for one in running:
            one.kill(signal.SIGKILL)
            await one.wait()
        await tell(f"{number}.none")
    return "done"


async def stopped_on_node(runtime: Runtime, directory: Path) -> Any:
    """Use a pod on another node while a container stops every new process on its own node; return the results."""
    (directory / "seen").mkdir()
    mounts = [Mount(str(directory / "seen"), "/seen")]
    node = await shared(runtime, "node", 1, Sharing(processes="node"))
    stopper, _ = await _until_printed(node, ["python3", "-c", _STOPPER], "stops\n", mounts=mounts)
    other, pod = await sandbox(runtime, "far", node=2), await sandbox(runtime, "near")
    starting = [asyncio.ensure_future(start_error(pod, ["true"], name=f"c{number}")) for number in range(2)]
    alive = await shell(other, "echo alive")
    stopper.kill(signal.SIGKILL)
    await stopper.wait()
    await asyncio.gather(*starting)
    return [alive, await shell(pod, "echo alive")]
