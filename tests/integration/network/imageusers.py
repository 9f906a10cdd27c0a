"""Containers of images with several users: servers that give up root's rights, and servers that refuse root.

DIRECTORY/base is a root with Debian packages (nginx, redis-server, postgresql-15). Its files may belong to users that
the cluster does not have, so the servers write only to a layer of the scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hatchway.cluster.runtime import (
    ContainerConfig,
    ContainerProcess,
    ImageRoot,
    Mount,
    Privileges,
    Runtime,
    Sandbox,
    StartError,
)
from tests.integration.network.inside import sandbox, shell, until

PATH = "/usr/local/bin:/usr/lib/postgresql/15/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_USERS = {"www-data": 33, "redis": 101, "postgres": 999}
_NGINX = """\
user www-data;
daemon off;
worker_processes 2;
error_log stderr;
pid /run/nginx.pid;
events {}
http { access_log off; server { listen 80; location / { return 200 "hello"; } } }
"""
_OWNED = {"var/lib/redis": "redis", "var/lib/postgresql": "postgres", "run/postgresql": "postgres"}
_POSTGRES = (
    "initdb -D /var/lib/postgresql/data -A trust --no-sync >/dev/null && "
    "exec postgres -D /var/lib/postgresql/data -k /tmp -c fsync=off"
)
_GIVE_UP = "exec setpriv --reuid=redis --regid=redis --init-groups "
_REDIS = "redis-server --bind 0.0.0.0 --protected-mode no --dir /var/lib/redis --save ''"


class Servers:
    """Starts containers of one image (DIRECTORY/base) in one pod."""

    def __init__(self, directory: Path, runtime: Runtime, pod: Sandbox) -> None:
        self.directory = directory
        self.runtime = runtime
        self.pod = pod
        self._made = 0
        self._top = directory / "top"
        self._write_top(numbers=runtime.users != "one")

    def _write_top(self, *, numbers: bool) -> None:
        for name in ("etc", "run", "tmp", "root", "var/lib/nginx", "var/log/nginx", "home", *_OWNED):
            (self._top / name).mkdir(parents=True, exist_ok=True)
        (self._top / "tmp").chmod(0o1777)
        accounts = {"root": 0, **_USERS}
        passwd = "".join(f"{name}:x:{number}:{number}::/home:/bin/sh\n" for name, number in accounts.items())
        (self._top / "etc/passwd").write_text(passwd)
        (self._top / "etc/group").write_text("".join(f"{name}:x:{number}:\n" for name, number in accounts.items()))
        (self._top / "etc/own.conf").write_text(_NGINX)
        if numbers:
            for name, user in _OWNED.items():
                os.chown(self._top / name, _USERS[user], _USERS[user])

    def config(self, argv: Sequence[str], output: int, user: str, **more: Any) -> ContainerConfig:
        self._made += 1
        changes = self.directory / f"changes-{self._made}"
        changes.mkdir()
        return ContainerConfig(
            name="main",
            argv=list(argv),
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            stdout=output,
            stderr=output,
            root=ImageRoot((str(self._top), str(self.directory / "base")), str(changes)),
            privileges=Privileges(user=user, **more.pop("privileges", {})),
            **more,
        )

    async def start(self, script: str, user: str = "", **more: Any) -> ContainerProcess:
        return await self.pod.start(self.config(["sh", "-c", script], 2, user, **more))

    async def run(
        self, script: str, user: str = "", container: ContainerProcess | None = None, **more: Any
    ) -> tuple[int, str]:
        with tempfile.TemporaryFile() as file:
            wanted = self.config(["sh", "-c", script], file.fileno(), user, **more)
            try:
                if container is not None:
                    process = await self.pod.exec(container, replace(wanted, root=None))
                else:
                    process = await self.pod.start(wanted)
            except StartError as error:
                return -1, str(error)
            ended = await process.wait()
            file.seek(0)
            return ended.code, file.read().decode(errors="replace").strip()

    async def ask(self, port: int, question: bytes, until: bytes) -> str:
        """Send a request to the pod as soon as it listens; return the response up to `until`."""
        while True:
            try:
                sock = await self.runtime.dial(self.pod.ip, port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_connection(sock=sock)
        with contextlib.closing(writer):
            writer.write(question)
            return (await reader.readuntil(until)).decode()


async def servers_of_images(runtime: Runtime, directory: Path) -> Any:
    """Run three servers with the commands of their images; return the results."""
    pod = await sandbox(runtime, "db")
    at = Servers(directory, runtime, pod)
    found: dict[str, Any] = {"users": runtime.users}
    numbers = (
        "for file in /proc/[0-9]*/status; do while read -r key _ effective _; do "
        '[ "$key" != Uid: ] || echo "$effective"; done < "$file"; done'
    )
    async with asyncio.timeout(120):
        nginx = await at.start("exec nginx -c /etc/own.conf")
        found["nginx"] = await at.ask(80, b"GET / HTTP/1.0\r\n\r\n", b"hello")
        found["nginx users"] = (await at.run(numbers, container=nginx))[1].split()
        redis = await at.start(_GIVE_UP + _REDIS)
        found["redis"] = await at.ask(6379, b"SET a b\r\nSAVE\r\n", b"+OK\r\n+OK\r\n")
        found["redis file"] = (await at.run("stat -c %u:%g /var/lib/redis/dump.rdb", container=redis))[1]
        postgres = await at.start(_POSTGRES, "postgres", privileges={"groups": (2000,)})
        ask = "until psql -h /tmp -U postgres -Atc 'select 6*7' 2>/dev/null; do sleep 0.05; done"
        found["postgres"] = await at.run(ask, "postgres", container=postgres)
        found["postgres id"] = (await at.run("id", "postgres", container=postgres))[1]
        found["postgres files"] = (await at.run("stat -c %u:%g /var/lib/postgresql/data/PG_VERSION /etc/passwd",
                                                "postgres", container=postgres))[1].split()  # fmt: skip
        found["go on"] = [process.new_user.done() for process in (nginx, redis, postgres)]
        found["by root"] = await at.run("initdb -D /tmp/d -A trust")
        found["by itself"] = await at.run("exec setpriv --reuid=postgres --regid=postgres --clear-groups id -u")
    await pod.remove()
    return found


async def changes_of_users(runtime: Runtime, directory: Path) -> Any:
    """Return what containers may do with users, groups, owners and devices; each attempt has its own container."""
    pod = await sandbox(runtime)
    at = Servers(directory, runtime, pod)
    volume = directory / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    mount = [Mount(str(volume), "/v")]
    found: dict[str, Any] = {"users": runtime.users}
    found["root id"] = await at.run("id")
    found["chown"] = await at.run("touch /v/root && chown 33:44 /v/root && stat -c %u:%g /v/root", mounts=mount)
    found["user id"] = await at.run("id; touch /v/user; stat -c %u:%g /v/user", "1234:1235", mounts=mount)
    found["user may not"] = await at.run("chown 0 /v/user || echo no; setpriv --reuid=0 true || echo no", "1234",
                                         mounts=mount)  # fmt: skip
    found["device"] = await at.run("mknod /tmp/sda b 8 0; echo $?; mknod /tmp/null c 1 3; echo $?; mknod /tmp/p p && "
                                   "test -p /tmp/p && echo fifo; test -e /tmp/sda || echo none")  # fmt: skip
    found["of all"] = [await at.run("id -u", str(number)) for number in (0, 65535, 65536, 4_000_000_000)]
    found["nested"] = await at.run("unshare -U -r id -u", "1234", privileges={"seccomp": ""})
    found["system"] = await at.run("echo x > /proc/sys/kernel/core_pattern || echo no", privileges={
        "capabilities": ("SYS_ADMIN", "DAC_OVERRIDE"), "seccomp": "", "unmasked_proc": True})  # fmt: skip
    (volume / "script").write_text("import os\ntry:\n os.setresuid(1, 1, 1)\nexcept OSError as e:\n print(e.errno)\n")
    host = (
        "import os\n"
        "def attempt(what, *args):\n"
        " try:\n  what(*args)\n  return 0\n"
        " except OSError as error:\n  return error.errno\n"
        "print(attempt(os.setresuid, 1, 1, 1), attempt(os.setresgid, 1, 1, 1), attempt(os.setgroups, [1]))\n"
        "print(attempt(os.chown, '/v/own', 1, 1), os.stat('/v/own').st_uid, os.getuid())\n"
    )
    (volume / "host.py").write_text(host)
    (volume / "own").touch()
    found["host program"] = await shell(pod, "python3 /v/host.py", mounts=mount)
    found["host program maps"] = await shell(
        pod, "unshare -U sleep 1 & sleep 0.3; echo '0 1 1' > /proc/$!/uid_map; cat /proc/$!/uid_map; wait", mounts=mount
    )
    await pod.remove()
    return found


async def scripts_that_start_again(runtime: Runtime, directory: Path) -> Any:
    """Return the results of start scripts that execute themselves again as another user."""
    pod = await sandbox(runtime)
    at = Servers(directory, runtime, pod)
    found: dict[str, Any] = {"users": runtime.users}
    script = directory / "volume/start.sh"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$(id -u)" != 0 ] || exec setpriv --reuid=redis --regid=postgres --clear-groups "$0"\n'
        "id; touch /v/ready; exec sleep 1000\n"
    )
    script.chmod(0o755)
    script.parent.chmod(0o777)
    more: dict[str, Any] = {"mounts": [Mount(str(script.parent), "/v")]}
    async with asyncio.timeout(60):
        first = await at.start("exec /v/start.sh", **more)
        if runtime.users == "one":
            user = found["user"] = await first.new_user
            first.kill(9)
            await first.wait()
            first = await at.start("exec /v/start.sh", user, **more)
        await until(script.parent / "ready")
        found["id"] = (await at.run("id", container=first))[1]
        # A container that changes its user repeatedly is delayed, but other containers are not.
        asking = asyncio.ensure_future(
            at.run("i=0; while [ $i -lt 150 ]; do setpriv --reuid=1 --regid=1 --clear-groups true; i=$((i+1)); done")
        )
        found["beside"] = await at.run("echo started")
        found["asking"] = await asking
        # Only a change of the first process sets `new_user`. A script may run other processes as any user.
        other = await at.start("setpriv --reuid=1 --clear-groups sleep 0.2; exec sleep 1000")
        await asyncio.sleep(0)
        found["later"] = await at.run("sleep 0.7; cat /proc/1/comm", container=other)
        found["of others"] = other.new_user.done()
    await pod.remove()
    return found


async def foreign_files(runtime: Runtime, directory: Path) -> Any:
    """Leave files of other users in DIRECTORY/state, which the control plane deletes."""
    pod = await sandbox(runtime)
    at = Servers(directory, runtime, pod)
    state = directory / "state" / "volume"
    state.mkdir(parents=True)
    state.chmod(0o777)
    script = "mkdir -p /v/a/b && echo x > /v/a/b/file && chmod 700 /v/a/b && chmod 500 /v/a && ln -s /etc /v/a/b/link"
    code, output = await at.run(script, "1234:1235", mounts=[Mount(str(state), "/v")])
    found = {"code": code, "output": output}
    (directory / "left").write_text(json.dumps(found))
    await until(directory / "deleted")
    await pod.remove()
    return found
