"""Containers that try to escape from their pods, and report the results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hatchway.cluster.runtime import Mount, Runtime, Sharing
from tests.integration.network.inside import config, run, sandbox
from tests.integration.network.sharing import shared

# Prints a JSON object: attempt -> result. The result "yes" means that the attempt has succeeded, which is a fault.
ATTACK = r"""
import ctypes, json, os, socket, stat, sys
facts = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
found = {}

def attempt(name, what):
    try:
        what()
        found[name] = "yes"
    except OSError as error:
        found[name] = error.strerror
    except Exception as error:
        found[name] = repr(error)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def connect(family, address):
    sock = socket.socket(family)
    sock.settimeout(1)
    sock.connect(address)

def write(path):
    with open(path, "r+") as file:
        file.write("x")

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

found["descriptors"] = [number for number in range(1024) if is_open(number)]
found["processes"] = [name for name in os.listdir("/proc") if name.isdigit()]
found["variables"] = sorted(set(os.environ) - {"PATH", "HOME", "PYTHONPATH", "LC_CTYPE"})
for host in facts["hosts"]:
    attempt("connect to " + host, lambda: connect(socket.AF_INET, (host, facts["port"])))
attempt("connect to a socket by name", lambda: connect(socket.AF_UNIX, "\0" + facts["abstract"]))
attempt("connect to a socket by path", lambda: connect(socket.AF_UNIX, facts["socket"]))
attempt("signal", lambda: os.kill(facts["pid"], 0))
for path in facts["paths"]:
    attempt("read " + path, lambda: os.listdir(path) if os.path.isdir(path) else open(path).close())
for path in facts["written"]:
    attempt("write " + path, lambda: write(path))
for kind, number in ((stat.S_IFBLK, (259, 0)), (stat.S_IFBLK, (8, 0)), (stat.S_IFCHR, (1, 1))):
    attempt(f"device {number}", lambda: os.mknod("/tmp/device", kind | 0o600, os.makedev(*number)))
MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 32, 4096, 2

def mounts(who):
    for kind in (b"tmpfs", b"proc", b"sysfs"):
        if who == "root" or kind != b"tmpfs":
            attempt(f"{who}: mount {kind.decode()}", lambda: call("mount", b"x", b"/mnt", kind, 0, None))
    for path in (b"/usr", b"/proc/sys", b"/sys"):
        attempt(f"{who}: write to {path.decode()}", lambda: call("mount", None, path, None, MS_REMOUNT | MS_BIND, None))
    for path in (b"/etc/passwd", b"/proc", b"/proc/sys", b"/usr", b"/sys"):
        attempt(f"{who}: uncover {path.decode()}", lambda: call("umount2", path, MNT_DETACH))

mounts("root")
# In a user namespace of its own it has every capability.
libc.unshare(0x10000000 | 0x20000)
mounts("own namespace")
attempt("own namespace: namespace of control groups", lambda: call("unshare", 0x02000000))
attempt("own namespace: mount cgroup2", lambda: call("mount", b"x", b"/mnt", b"cgroup2", 0, None))
for path in facts["written"]:
    attempt("own namespace: write " + path, lambda: write(path))
print(json.dumps(found))
"""


async def hostile(runtime: Runtime, directory: Path) -> Any:
    """Return the results of attacks by a container, by a process that joins a container, and by a pod on its node."""
    facts = json.loads((directory / "facts.json").read_text())
    secret = directory / "secret"
    secret.mkdir()
    (secret / "token").write_text("secret")
    victim = await sandbox(runtime, "victim")
    other = await victim.start(config(["sleep", "1000"], 2, mounts=[Mount(str(secret), "/secret")]))
    facts["paths"] += ["/secret", str(secret)]
    pod = await sandbox(runtime, "attacker")
    argv = ["python3", "-c", ATTACK, json.dumps(facts)]
    _, started = await run(pod, argv)
    # This pod shares all possible namespaces with its node, so it sees the victim's processes.
    on_node = await shared(runtime, "on-node", 1, Sharing(network=True, ipc=True, processes="node"))
    _, node = await run(on_node, argv)
    waiting = await pod.start(config(["sleep", "1000"], 2, name="waiting"))
    _, joined = await run(pod, argv, waiting)
    alive, _ = await run(victim, ["true"], other)
    return {
        "started": json.loads(started),
        "joined": json.loads(joined),
        "on node": json.loads(node),
        "victim": alive,
    }


async def inherited(runtime: Runtime, directory: Path) -> Any:
    """Return the targets of the open descriptors of a container's process, except its output and /dev/null."""
    script = """
import json, os
open_ones = [f"/proc/self/fd/{number}" for number in range(1024) if os.path.lexists(f"/proc/self/fd/{number}")]
os.write(1, json.dumps(sorted({os.readlink(link) for link in open_ones if os.path.lexists(link)})).encode())
"""
    pod = await sandbox(runtime)
    output = directory / "output"
    descriptor = os.open(output, os.O_RDWR | os.O_CREAT)
    process = await pod.start(config(["python3", "-c", script], descriptor))
    os.close(descriptor)
    await process.wait()
    found = json.loads(output.read_text())
    return [link for link in found if link not in ("/dev/null", str(output))]
