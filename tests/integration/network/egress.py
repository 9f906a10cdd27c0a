"""Scenarios with connections to other networks, in the simulated host of `pretendhost.py`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.runtime import Runtime
from tests.integration.network.inside import GREETER, config, run, sandbox, until

# Gets a JSON list of attempts: [name of a function below, its arguments]. Prints the results, or names of errors.
CLIENT = """
import errno, json, socket, sys, threading, time
def connect(ip, port, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.settimeout(20)
    sock.connect((ip, port))
    return sock
def talk(ip, port, said, data=b""):
    with connect(ip, port) as sock:
        sock.sendall(said.encode() + b"\\n" + data)
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode("latin-1")
def tcp(ip, port): return talk(ip, port, "who")
def greeting(ip, port):
    with connect(ip, port) as sock:
        return sock.recv(100).decode()
def tcp6(ip, port): connect(ip, port, socket.AF_INET6)
def get(ip, port, size): return len(talk(ip, port, "get %d" % size))
def put(ip, port, size): return talk(ip, port, "put %d" % size, bytes(size))
def many(ip, port, count):
    held = [connect(ip, port) for _ in range(count)]
    found = set()
    for sock in held: sock.sendall(b"who\\n")
    for sock in held: found.add(sock.recv(100).decode())
    return sorted(found)
def udp(ip, port, size):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((ip, port))
        for attempt in range(4):
            sock.send(b"x" * size)
            try: return len(sock.recv(65536))
            except TimeoutError: pass
        return "no answer"
def name(name): return sorted({found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)})
def count(name): return len({found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)})
results = []
def outcome(kind, arguments):
    try: return globals()[kind](*arguments)
    except socket.gaierror as error: return "gai %d" % error.errno
    except OSError as error: return errno.errorcode.get(error.errno or 0, str(error))
name_once = name
for kind, *arguments in json.loads(sys.argv[1]):
    deadline = time.monotonic() + 30
    # On a busy machine, a name server may not answer in time.
    while (found := outcome(kind, arguments)) == "gai -3" and kind != "name_once" and time.monotonic() < deadline:
        time.sleep(0.1)
    results.append(found)
print(json.dumps(results))
"""


async def attempts(pod: Any, wanted: list[list[Any]]) -> Any:
    code, text = await run(pod, ["python3", "-c", CLIENT, json.dumps(wanted)])
    assert code == 0, text
    return json.loads(text)


async def egress(runtime: Runtime, directory: Path) -> Any:
    """Return the results of a pod's attempts: at first, while the egress program is killed, and after it runs again."""
    wanted = json.loads((directory / "wanted").read_text())
    await until(directory / "up 1")
    pod = await sandbox(runtime, **{"resolv.conf": f"search corp.test\nnameserver {plan.HOST_NAMESERVER}\n"})
    other = await sandbox(runtime, "other")
    await other.start(config(["python3", "-c", GREETER, "8080"], 2, env={"NAME": "other"}))
    found = {"first": await attempts(pod, wanted["first"])}
    while True:
        found["inside"] = await attempts(pod, [["greeting", other.ip, 8080]])
        if found["inside"] != ["ECONNREFUSED"]:
            break
    program = next((directory / "bin").iterdir())
    target = program.readlink()
    # Without its file, the killed program cannot be restarted.
    program.unlink()
    os.kill(_program(), signal.SIGKILL)
    await until(directory / "down 1")
    found["down"] = await attempts(pod, wanted["second"])
    program.symlink_to(target)
    await until(directory / "up 2")
    found["again"] = await attempts(pod, wanted["second"])
    return found


async def egress_for_ever(runtime: Runtime, directory: Path) -> Any:
    await until(directory / "up 1")
    (directory / "ready").touch()
    await asyncio.Event().wait()


def _program() -> int:
    """Return the process id of pasta or slirp4netns in the network's PID namespace."""
    for entry in Path("/proc").glob("[0-9]*/comm"):
        if entry.read_text().strip().partition(".")[0] in ("pasta", "passt", "slirp4netns"):
            return int(entry.parent.name)
    raise AssertionError("neither pasta nor slirp4netns runs")
