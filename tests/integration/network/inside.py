"""The node agent of the network tests: runs a scenario with the runtime, and writes its result.

    python inside.py SCENARIO DIRECTORY

The result is written to DIRECTORY/result.json; other files of the directory coordinate the
scenario and the control plane.
"""

# ruff: noqa: ASYNC110  conditions change in other processes

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.network import noderoot, runtimes
from hatchway.cluster.network.nodedirs import NodeDirectories, SharedDirectory
from hatchway.cluster.runtime import (
    ContainerConfig,
    ContainerProcess,
    ImageRoot,
    Mount,
    Runtime,
    Sandbox,
    SandboxConfig,
    StartError,
)

PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# A server that sends its name ($NAME) on each connection, and closes the connection.
GREETER = """
import os, socket, sys
server = socket.create_server((os.environ.get("HATCHWAY_POD_IP", ""), int(sys.argv[1])), backlog=64)
while True:
    connection, _ = server.accept()
    connection.sendall(os.environ["NAME"].encode())
    connection.close()
"""


async def sandbox(runtime: Runtime, name: str = "pod", node: int = 1, **etc: str) -> Sandbox:
    return await runtime.create_sandbox(
        SandboxConfig(
            node_index=node,
            uid=f"uid-{name}",
            hostname=name,
            etc=lambda ip: {"hosts": f"127.0.0.1\tlocalhost\n{ip}\t{name}\n", **etc},
        )
    )


def config(argv: list[str], output: int = 1, **more: Any) -> ContainerConfig:
    env = {"PATH": PATH, **more.pop("env", {})}
    if "PYTHONPATH" in os.environ:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return ContainerConfig(name=more.pop("name", "main"), argv=argv, env=env, stdout=output, stderr=output, **more)


async def run(
    where: Sandbox, argv: list[str], container: ContainerProcess | None = None, **more: Any
) -> tuple[int, str]:
    """Run a container to its end; return exit code and output."""
    with tempfile.TemporaryFile() as file:
        wanted = config(argv, file.fileno(), **more)
        process = await (where.exec(container, wanted) if container else where.start(wanted))
        ended = await process.wait()
        file.seek(0)
        return ended.code, file.read().decode()


async def shell(where: Sandbox, script: str, container: ContainerProcess | None = None, **more: Any) -> tuple[int, str]:
    return await run(where, ["sh", "-c", script], container, **more)


async def start_error(where: Sandbox, argv: list[str], **more: Any) -> str:
    try:
        process = await where.start(config(argv, 2, **more))
    except StartError as error:
        return str(error)
    process.kill(signal.SIGKILL)
    return "started"


async def until(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


async def dialed(runtime: Runtime, ip: str, port: int) -> str:
    """Connect as soon as the port is open; read to the end of the stream."""
    while True:
        try:
            sock = await runtime.dial(ip, port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(sock=sock)
    with contextlib.closing(writer):
        return (await reader.read()).decode()


# Scenarios


async def two_pods(runtime: Runtime, directory: Path) -> Any:
    """Run two pods with the same port until the control plane has dialed them (`two_pods` of outside.py)."""
    ips = []
    for name in ("one", "two"):
        pod = await sandbox(runtime, name)
        argv = ["python3", "-c", GREETER, "8080"]
        await pod.start(config(argv, 2, env={"NAME": name}))
        ips.append(pod.ip)
        await dialed(runtime, pod.ip, 8080)
    (directory / "ips").write_text(json.dumps(ips))
    os.rename(directory / "ips", directory / "ready")
    await until(directory / "done")
    return ips


async def for_ever(runtime: Runtime, directory: Path) -> Any:
    """Run pods with descendants until the control plane is killed."""
    pod = await sandbox(runtime)
    marker = directory.name
    script = f"setsid sh -c 'exec sleep 1000 # {marker}' & exec sh -c 'while :; do sleep 1000; done # {marker}'"
    await pod.start(config(["sh", "-c", script], 2))
    (directory / "ready").touch()
    await asyncio.Event().wait()


async def surroundings(runtime: Runtime, directory: Path) -> Any:
    """Return what a container sees of its environment."""
    pod = await sandbox(runtime, "web-0", **{"resolv.conf": "nameserver 10.96.0.10\n"})
    found: dict[str, Any] = {"ip": pod.ip}
    for name, script in {
        "hostname": "hostname",
        "hosts": "cat /etc/hosts",
        "resolv": "cat /etc/resolv.conf",
        "nsswitch": "cat /etc/nsswitch.conf",
        "pid": "echo $$",
        "processes": "ls /proc | grep -c '^[0-9]'",
        "cwd": "pwd",
        "env": "env",
        "devices": "ls /dev | tr '\\n' ' '",
        "home": "ls -A /home /root",
        "capabilities": "grep CapEff /proc/self/status",
        "privileges": "grep NoNewPrivs /proc/self/status",
        "python": "python3 -c 'import hatchway, msgspec; print(1)'",
        "addresses": "python3 -c 'import socket; print(socket.if_nameindex())'",
        "low port": "python3 -c 'import socket; socket.create_server((\"\", 53)); print(1)'",
        "localhost": "python3 -c 'import socket; print(socket.gethostbyname(\"localhost\"))'",
        "own name": "python3 -c 'import socket; print(socket.gethostbyname(socket.gethostname()))'",
        "null": "echo x > /dev/null && head -c 4 /dev/urandom | wc -c",
        "terminal": "python3 -c 'import os; print(os.ttyname(os.openpty()[1]))'",
        "shared memory": "echo 1 > /dev/shm/x && cat /dev/shm/x",
    }.items():
        found[name] = (await shell(pod, script))[1].strip()
    return found


async def owners(runtime: Runtime, directory: Path) -> Any:
    """Run each system call that changes owners, also for missing files, and tar and install; return their output."""
    pod = await sandbox(runtime)
    code = """
import io, os, tarfile
open("/tmp/f", "w").close()
os.symlink("nowhere", "/tmp/l")
os.chown("/tmp/f", 1000, 1000)
os.chown("/tmp/f", 0, 1000)
os.chown("/tmp/f", 1000, -1)
os.chown("/tmp/f", 2**32 - 2, 2**32 - 2)
os.lchown("/tmp/l", 1000, 1000)
with open("/tmp/f") as file:
    os.fchown(file.fileno(), 1000, 1000)
os.chown("f", 1000, 1000, dir_fd=os.open("/tmp", os.O_RDONLY))
found = os.stat("/tmp/f")
print(found.st_uid, found.st_gid, os.lstat("/tmp/l").st_uid)
for user, group in ((0, 0), (-1, -1), (0, -1), (-1, 0)):
    os.chown("/tmp/f", user, group)
    try:
        os.chown("/tmp/none", user, group)
    except FileNotFoundError:
        print("missing")
with tarfile.open("/tmp/t.tar", "w") as made:
    info = tarfile.TarInfo("inner")
    info.uid, info.gid, info.size = 1234, 5678, 1
    made.addfile(info, io.BytesIO(b"x"))
"""
    tools = "cd /tmp && tar -xpf t.tar 2>&1 && cat inner && install -o 33 -g 33 f g && echo installed"
    return await run(pod, ["sh", "-c", f'python3 -c "$0" && {tools}', code])


async def secrets(runtime: Runtime, directory: Path) -> Any:
    """Return the secret paths that a container can read, and the places and mounts that it can change."""
    pod = await sandbox(runtime)
    paths = json.loads((directory / "secrets.json").read_text())
    script = 'for p in "$@"; do if cat "$p" >/dev/null 2>&1 || ls "$p"/* >/dev/null 2>&1; then echo "$p"; fi; done'
    _, visible = await run(pod, ["sh", "-c", script, "sh", *paths])
    _, writable = await shell(
        pod,
        "for p in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper;"
        ' do (: > "$p") 2>/dev/null && echo "$p"; done; mount -t tmpfs x /mnt 2>/dev/null && echo mount;'
        " mount -o remount,rw /usr 2>/dev/null && echo remount; chroot / true; true",
    )
    return {"visible": visible.split(), "writable": writable.split()}


async def writes(runtime: Runtime, directory: Path) -> Any:
    """Return where a container can write, and whether the next container sees the files."""
    pod = await sandbox(runtime)
    places = [
        "/tmp/written-by-a-container",
        "/etc/x",
        "/root/x",
        "/x",
        "/var/log/x",
        "/run/x",
        "/usr/x",
        "/usr/bin/x",
        "/opt/x",
    ]
    script = 'for p in "$@"; do (echo 1 > "$p") 2>/dev/null && echo "$p"; done; true'
    _, first = await run(pod, ["sh", "-c", script, "sh", *places])
    _, second = await shell(pod, "cat /tmp/written-by-a-container /x /var/log/x 2>&1 | grep -c 'No such file'")
    _, read_only = await run(pod, ["sh", "-c", script, "sh", *places, "/dev/shm/x"], read_only_root=True)
    return {"written": first.split(), "gone": second.strip(), "read only": read_only.split()}


async def volumes(runtime: Runtime, directory: Path) -> Any:
    source = directory / "volume"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content")
    token = directory / "token"
    token.mkdir()
    (token / "token").write_text("secret")
    pod = await sandbox(runtime)
    places = ["/data", "/usr/share/nginx/html", "/etc/app/conf", "/opt/new/place", "/home/someone"]
    mounts = [Mount(str(source), place) for place in places]
    mounts += [
        Mount(str(source), "/ro", read_only=True),
        Mount(str(token), "/var/run/secrets/kubernetes.io/serviceaccount", read_only=True),
        Mount(str(source / "file"), "/etc/app.conf", read_only=True),
        Mount(str(source / "file"), "/etc/passwd"),
        Mount(str(token), "/data/sub"),
    ]
    script = "".join(f"cat {place}/file; " for place in places) + (
        "echo; cat /var/run/secrets/kubernetes.io/serviceaccount/token /etc/app.conf /etc/passwd /data/sub/token; echo;"
        "echo new > /data/written; echo new > /ro/x || echo refused; echo new > /etc/app.conf || echo refused;"
        "ls /usr/share/zoneinfo >/dev/null && echo siblings; echo 1 > /data/sub/made"
    )
    code, output = await shell(pod, script, mounts=mounts)
    return {
        "code": code,
        "lines": [line for line in output.splitlines() if "cannot create" not in line],
        "written": (source / "written").read_text(),
        "nested": (token / "made").exists(),
        "not there": (source / "x").exists(),
        "missing": await start_error(pod, ["true"], mounts=[Mount(str(directory / "no"), "/data")]),
        "root": await start_error(pod, ["true"], mounts=[Mount(str(source), "/")]),
        "relative": await start_error(pod, ["true"], mounts=[Mount(str(source), "data")]),
        "kind": await start_error(pod, ["true"], mounts=[Mount(str(source / "file"), "/tmp")]),
    }


async def errors(runtime: Runtime, directory: Path) -> Any:
    pod = await sandbox(runtime)
    return {
        "no such program": await start_error(pod, ["no-such-program"]),
        "no such file": await start_error(pod, ["/no/such/file"]),
        "directory": await start_error(pod, ["/usr"]),
        "not executable": await start_error(pod, ["/etc/passwd"]),
        "format": await start_error(pod, [str(directory / "nonsense")], mounts=[_nonsense(directory)]),
        "bad cwd": await start_error(pod, ["true"], cwd="/etc/passwd/x"),
        "new cwd": await run(pod, ["pwd"], cwd="/some/where"),
        "nothing": await start_error(pod, []),
        "null": await start_error(pod, ["true", "a\0b"]),
        "large": len((await run(pod, ["env"], env={f"V{i}": "x" * 1000 for i in range(100)}))[1]) > 100_000,
        "too large": await start_error(pod, ["true"], env={f"V{i}": "x" * 100_000 for i in range(40)}),
    }


def _nonsense(directory: Path) -> Mount:
    path = directory / "nonsense"
    path.write_bytes(b"\0nonsense")
    path.chmod(0o755)
    return Mount(str(path), str(path))


async def processes(runtime: Runtime, directory: Path) -> Any:
    """Return results about exit codes, signals, exec, and the end of descendants."""
    pod = await sandbox(runtime)
    found: dict[str, Any] = {"exit 3": (await shell(pod, "exit 3"))[0]}
    trapping = await pod.start(config(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"], 2))
    found["exec"] = await shell(pod, "echo $NAME; pwd; exit 4", trapping, env={"NAME": "x"}, cwd="/tmp")
    try:
        await pod.exec(trapping, config(["nope"], 2))
    except StartError as error:
        found["exec error"] = str(error)
    # An exec sees the container's files, and its processes are in the same PID namespace.
    await shell(pod, "echo shared > ${HATCHWAY_ROOT:-/tmp}/tmp-file", trapping)
    found["shared"] = (await shell(pod, "cat ${HATCHWAY_ROOT:-/tmp}/tmp-file", trapping))[1]
    sleeper = await pod.exec(trapping, config(["sleep", "1000"], 2))
    sleeper.kill(signal.SIGTERM)
    found["exec killed"] = vars_of(await sleeper.wait())
    other = await pod.exec(trapping, config(["sh", "-c", "sleep 1000 & sleep 1000"], 2))
    trapping.kill(signal.SIGTERM)
    found["terminated"] = vars_of(await trapping.wait())
    other.kill(signal.SIGKILL)
    found["exec dies too"] = vars_of(await other.wait())
    try:
        await pod.exec(trapping, config(["true"], 2))
        found["exec in the dead"] = "started"
    except StartError as error:
        found["exec in the dead"] = str(error)
    trapping.kill(signal.SIGTERM)
    stubborn = await pod.start(config(["sh", "-c", "(sleep 1000 & sleep 1000) & sleep 1000"], 2))
    stubborn.kill(signal.SIGKILL)
    found["killed"] = vars_of(await stubborn.wait())
    await pod.start(config(["sleep", "1000"], 2))
    await pod.remove()
    await pod.remove()
    found["after removal"] = await start_error(pod, ["true"])
    return found


def vars_of(ended: Any) -> list[int]:
    return [ended.code, ended.signal]


async def many(runtime: Runtime, directory: Path) -> Any:
    """Run many containers at once, and again after all of them have ended."""
    for _ in range(2):
        pods = await asyncio.gather(*(sandbox(runtime, f"pod-{i}", node=i % 3) for i in range(20)))
        assert len({pod.ip for pod in pods}) == 20
        codes = await asyncio.gather(*(run(pod, ["sh", "-c", f"exit {i}"]) for i, pod in enumerate(pods)))
        assert [code for code, _ in codes] == list(range(20))
        await asyncio.gather(*(pod.remove() for pod in pods))
    return "done"


async def written_bytes(runtime: Runtime, directory: Path) -> Any:
    """Return how many bytes containers have written outside of their volumes; one of them has called chroot."""
    volume = directory / "volume"
    volume.mkdir()
    (volume / "file").write_bytes(b"x" * (4 << 20))
    mounts = [Mount(str(volume), "/v")]
    change_root = "import os, time; os.chroot('/v'); os.chdir('/'); open('ready-chroot', 'x').close(); time.sleep(1000)"
    scripts = {
        "nothing": "touch /v/ready-nothing",
        "tmp": "head -c 3000000 /dev/zero >/tmp/file; touch /v/ready-tmp",
        "volume": "head -c 3000000 /dev/zero >/v/more; touch /v/ready-volume",
        "chroot": f'exec python3 -c "{change_root}"',
    }
    pod = await sandbox(runtime)
    found: dict[str, Any] = {}
    for name, script in scripts.items():
        process = await pod.start(config(["sh", "-c", f"{script}; sleep 1000"], 2, name=name, mounts=mounts))
        await until(volume / f"ready-{name}")
        found[name] = await asyncio.to_thread(process.written_bytes)
        process.kill(signal.SIGKILL)
        await process.wait()
    found["ended"] = process.written_bytes()
    return found


async def processes_of_nodes(runtime: Runtime, directory: Path) -> Any:
    """Return the files in hostPath volumes of /proc and / while containers run on two nodes."""
    for node in (1, 2):
        await (await sandbox(runtime, f"pod-{node}", node=node)).start(config(["sleep", "1000"], 2))
    pod = await sandbox(runtime, "looking", node=1)
    found: dict[str, Any] = {}
    for path in ("/proc", "/"):
        root, inside = await asyncio.to_thread(runtime.locate, 1, path)
        proc = "/host/proc" if path == "/" else "/host"
        script = f"cd {proc} && ls -d [0-9]* self/*; head -c 4 stat; ls /host | wc -l; echo x >sys/kernel/hostname"
        found[path] = await shell(pod, f"({script}) 2>&1", mounts=[Mount(root, "/host", inside=inside)])
    return found


async def nodes_after_an_error(runtime: Runtime, directory: Path) -> Any:
    """Make the nodes' file systems fail once at the last mount, the pods' logs. Return what the next attempt shows."""
    complete = noderoot.make_read_only

    def fail(path: str) -> None:
        if path.endswith("/0"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        complete(path)

    found: dict[str, Any] = {}
    noderoot.make_read_only = fail
    try:
        await asyncio.to_thread(runtime.locate, 1, plan.NODE_LOGS)
    except OSError as error:
        found["error"] = error.errno
    finally:
        noderoot.make_read_only = complete
    (directory / "logs/log").touch()
    root, inside = await asyncio.to_thread(runtime.locate, 1, plan.NODE_LOGS)
    pod = await sandbox(runtime)
    script = "ls /logs; echo x 2>&1 >/logs/written"
    _, found["output"] = await shell(pod, f"({script}) 2>&1", mounts=[Mount(root, "/logs", inside=inside)])
    found["prepared"] = len(list((directory / "network/nodes").glob("common-*")))
    return found


async def loopback_surroundings(runtime: Runtime, directory: Path) -> Any:
    source = directory / "volume"
    source.mkdir()
    (source / "file").write_text("content")
    pod = await sandbox(runtime)
    mounts = [Mount(str(source), "/var/data/here", read_only=True)]
    found: dict[str, Any] = {"limits": runtime.limits}
    found["volume"] = await shell(pod, "cat $HATCHWAY_ROOT/var/data/here/file", mounts=mounts)
    found["cwd"] = await shell(pod, "ls", mounts=mounts, cwd="/var/data/here")
    found["host cwd"] = await shell(pod, "pwd", cwd="/tmp")
    _, output = await shell(pod, "pwd; echo $HATCHWAY_ROOT; echo $HATCHWAY_POD_IP")
    cwd, root, found["ip"] = output.split()
    found["default cwd"] = cwd == root
    found["nested"] = await start_error(pod, ["true"], mounts=[*mounts, Mount(str(source), "/var/data/here/too")])
    found["relative"] = await start_error(pod, ["true"], mounts=[Mount(str(source), "data")])
    await pod.remove()
    found["gone"] = not Path(root).exists() and source.exists()
    return found


async def loopback_errors(runtime: Runtime, directory: Path) -> Any:
    pod = await sandbox(runtime)
    return {
        "no such program": await start_error(pod, ["no-such-program"]),
        "not executable": await start_error(pod, ["/etc/passwd"]),
        "bad cwd": await start_error(pod, ["true"], cwd="/etc/passwd"),
        "nothing": await start_error(pod, []),
        "image": await start_error(pod, ["true"], root=ImageRoot(("/usr",), str(directory))),
    }


async def for_ever_in_one_session(runtime: Runtime, directory: Path) -> Any:
    pod = await sandbox(runtime)
    script = f"sleep 1000 & exec sh -c 'while :; do sleep 1000; done # {directory.name}'"
    await pod.start(config(["sh", "-c", script], 2))
    (directory / "ip").write_text(pod.ip)
    (directory / "ready").touch()
    await asyncio.Event().wait()


async def main() -> None:
    from tests.integration.network import (
        egress,
        entering,
        hostile,
        imageroots,
        imageusers,
        races,
        services,
        sharing,
        terminals,
    )

    scenario, directory = sys.argv[1], Path(sys.argv[2])
    names = ["control-plane", "node-1", "node-2"]
    (directory / "logs").mkdir()
    parts = [SharedDirectory(str(directory / "logs"), plan.NODE_LOGS, read_only=True)]
    directories = NodeDirectories(directory / "nodes", names, directory / "network", parts)
    async with runtimes.open_runtime(directories, [plan.HOST_IP]) as runtime:
        modules = (services, egress, entering, hostile, imageroots, imageusers, races, sharing, terminals)
        found = globals().get(scenario) or next(getattr(it, scenario) for it in modules if hasattr(it, scenario))
        ending = asyncio.ensure_future(runtime.closed)
        running = asyncio.ensure_future(found(runtime, directory))
        await asyncio.wait((ending, running), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            try:
                result = {"result": running.result()}
            except Exception:  # noqa: BLE001  the test reports every error
                result = {"error": traceback.format_exc()}
            (directory / "result.json").write_text(json.dumps(result))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
