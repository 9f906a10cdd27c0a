"""Pods that share namespaces with their node; they try to see and to reach more."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.runtime import ContainerProcess, Runtime, Sandbox, SandboxConfig, Sharing
from tests.integration.network.inside import GREETER, config, dialed, run, shell, start_error

_READ = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print(s.recv(99).decode())"
)

# Tries to leave the container through each process that it sees. Prints process name -> successful attempts.
_LOOK = r"""
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def traced(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, 0, 0)
def taken(pid):
    number = libc.syscall(438, os.pidfd_open(pid), 0, 0)
    if number < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
def entered(pid):
    if libc.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
def resolved(pid, name):
    return os.listdir(f"/proc/{pid}/{name}/")
found = {}
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    if pid == os.getpid():
        continue
    try:
        line = open(f"/proc/{pid}/cmdline").read().replace("\0", " ").strip()
    except OSError:
        continue
    worked = found.setdefault(f"{pid if pid == 1 else ''} {line}".strip(), [])
    for what, attempt in {
        "root": lambda: resolved(pid, "root"), "cwd": lambda: resolved(pid, "cwd"),
        "above root": lambda: resolved(pid, "root/.."),
        "fd": lambda: os.readlink(f"/proc/{pid}/fd/{(os.listdir(f'/proc/{pid}/fd') + [9999])[0]}"),
        "exe": lambda: os.readlink(f"/proc/{pid}/exe"), "environ": lambda: open(f"/proc/{pid}/environ").read(),
        "mem": lambda: open(f"/proc/{pid}/mem", "rb").close(), "maps": lambda: open(f"/proc/{pid}/maps").read(),
        "ptrace": lambda: traced(pid), "pidfd": lambda: taken(pid), "setns": lambda: entered(pid),
    }.items():
        try:
            attempt()
            worked.append(what)
        except OSError:
            pass
found["mounts"] = [line.split()[1] for line in open("/proc/1/mounts")]
found["connections"] = len(open("/proc/1/net/tcp").readlines()) - 1
print(json.dumps(found))
"""

_MAKE_SEGMENT = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(int(sys.argv[1]), 4096, int(sys.argv[2], 8)) >= 0)
"""


async def shared(runtime: Runtime, name: str, node: int, sharing: Sharing) -> Sandbox:
    return await runtime.create_sandbox(
        SandboxConfig(
            node_index=node,
            uid=f"uid-{name}",
            hostname=name,
            etc=lambda ip: {"hosts": f"127.0.0.1\tlocalhost\n{ip}\t{name}\n"},
            sharing=sharing,
        )
    )


async def _greeter(where: Sandbox, name: str, port: int = 8080) -> ContainerProcess:
    return await where.start(config(["python3", "-c", GREETER, str(port)], 2, name=name, env={"NAME": name}))


async def node_network(runtime: Runtime, directory: Path) -> Any:
    """Return the results of pods in their nodes' networks, where the kubelet and other pods listen, too."""
    on_node = Sharing(network=True)
    one, two = await shared(runtime, "one", 1, on_node), await shared(runtime, "two", 1, on_node)
    other = await shared(runtime, "other", 2, on_node)
    plain = await shared(runtime, "plain", 1, Sharing())
    kubelet = runtime.sockets.listen(plan.node_ip(1), 10250)
    await _greeter(one, "one")
    await _greeter(other, "other")
    found: dict[str, Any] = {"ips": [pod.ip for pod in (one, two, other)]}
    found["dialed"] = [await dialed(runtime, pod.ip, 8080) for pod in (one, other)]
    bind = "python3 -c 'import socket; socket.create_server((\"\", {}))' 2>&1 | tail -n 1"
    found["taken"] = [(await shell(two, bind.format(port)))[1].strip() for port in (8080, 10250)]
    for name, where, target in (
        ("by its address", plain, one.ip),
        ("by loopback", two, "127.0.0.1"),
        ("from a node", one, other.ip),
        ("loopback of a pod", plain, "127.0.0.1"),
        ("loopback of another node", other, "127.0.0.1"),
    ):
        found[name] = (await shell(where, f"python3 -c '{_READ}' {target} 8080 2>/dev/null"))[1].strip()
    found["hostname"] = (await shell(two, "hostname"))[1].strip()
    # The port that a pod uses on its node is still free at the address of a Service.
    found["listens elsewhere"] = runtime.sockets.listen("10.96.7.7", 8080).getsockname()[0]
    kubelet.close()
    await plain.remove()
    await one.remove()
    # The removal of the pod leaves the listener on the other node open.
    found["afterwards"] = await dialed(runtime, other.ip, 8080)
    found["free again"] = (await shell(two, bind.format(8080)))[1].strip()
    return found


async def node_processes(runtime: Runtime, directory: Path) -> Any:
    """Return what a pod with hostPID can see and do, and the processes that are left after its end."""
    neighbour, far = await shared(runtime, "near", 1, Sharing()), await shared(runtime, "far", 2, Sharing())
    sleeper = await neighbour.start(config(["sleep", "1001"], 2))
    await far.start(config(["sleep", "1002"], 2))
    host = await shared(runtime, "host", 1, Sharing(network=True, ipc=True, processes="node"))
    _, output = await run(host, ["python3", "-c", _LOOK])
    found: dict[str, Any] = {"seen": json.loads(output)}
    # When a container ends, all processes that it has started end, too, even detached ones.
    leave = "for i in 1 2 3; do setsid sh -c 'sleep 1003 & sleep 1003' & done; unshare -Um sleep 1003 & sleep 0.3"
    await shell(host, leave)
    found["left"] = await _count(host, "sleep 1003")
    stays = await host.start(config(["sleep", "1004"], 2, name="stays"))
    await shell(host, "setsid sleep 1003 & sleep 0.2", name="goes")
    found["left beside another"] = await _count(host, "sleep 1003")
    found["other stays"] = await _count(host, "sleep 1004")
    found["exec"] = (await shell(host, "kill -0 1 && echo sees", stays))[1].strip()
    # The pod may kill other pods of its node, but not the reaper of the namespace.
    await shell(host, "kill -9 1; kill -9 -1; true", name="kills")
    found["killed"] = [(await sleeper.wait()).signal, (await stays.wait()).signal]
    found["still"] = [await _count(host, "sleep 1001"), (await shell(neighbour, "echo $$"))[1].strip()]
    found["agent"] = os.getpid() > 0 and (await shell(far, "echo alive"))[1].strip()
    await host.remove()
    found["gone"] = await start_error(host, ["true"])
    return found


async def _count(where: Sandbox, line: str) -> int:
    """Return the number of processes with this command line that a pod sees."""
    script = (
        "import os, sys; print(sum(open(f'/proc/{n}/cmdline').read().replace(chr(0), ' ').strip() == sys.argv[1]"
        " for n in os.listdir('/proc') if n.isdigit() and os.path.exists(f'/proc/{n}/cmdline')))"
    )
    _, output = await run(where, ["python3", "-c", script, line], name="counts")
    return int(output)


async def pod_processes(runtime: Runtime, directory: Path) -> Any:
    """Return the results of containers that share a PID namespace with their pod, and not with their node."""
    pod = await shared(runtime, "sharing", 1, Sharing(processes="pod"))
    other = await shared(runtime, "other", 1, Sharing())
    await other.start(config(["sleep", "1001"], 2))
    one = await pod.start(config(["sleep", "1002"], 2, name="one"))
    found: dict[str, Any] = {"sees": [await _count(pod, f"sleep {number}") for number in (1001, 1002)]}
    await shell(pod, "setsid sleep 1003 & sleep 0.2", name="leaves")
    found["left"] = await _count(pod, "sleep 1003")
    found["signalled"] = (await shell(pod, "kill $(pidof sleep)", name="signals"))[0], (await one.wait()).signal
    await pod.start(config(["sleep", "1004"], 2, name="last"))
    watching = await shared(runtime, "watching", 1, Sharing(processes="node"))
    found["before"] = await _count(watching, "sleep 1004")
    await pod.remove()
    found["after"] = await _count(watching, "sleep 1004")
    return found


async def node_ipc(runtime: Runtime, directory: Path) -> Any:
    """Return the results of SysV shared memory in pods of a node, with hostIPC and without."""
    one, two = await shared(runtime, "one", 1, Sharing(ipc=True)), await shared(runtime, "two", 1, Sharing(ipc=True))
    plain, far = await shared(runtime, "plain", 1, Sharing()), await shared(runtime, "far", 2, Sharing(ipc=True))
    await run(one, ["python3", "-c", _MAKE_SEGMENT, "4711", "1600"])
    return [
        (await run(where, ["python3", "-c", _MAKE_SEGMENT, "4711", "0600"]))[1].strip() for where in (two, plain, far)
    ]


# Sends a datagram with a forged IP header, and unsolicited ARP replies.
_SPOOF = r"""
import socket, struct, sys
target, honest, others = sys.argv[1], sys.argv[2], sys.argv[3:]
def packet(source, text):
    udp = struct.pack("!HHHH", 999, 9999, 8 + len(text), 0) + text
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source),
                       socket.inet_aton(target))
    return head + udp
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0x0806))
mac = link.getsockname()[4]
for address in others:
    raw.sendto(packet(address, b"spoofed " + address.encode()), (target, 0))
    for kind in (1, 2):
        arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, kind, mac, socket.inet_aton(address), b"\xff" * 6,
                          socket.inet_aton(address))
        link.send(b"\xff" * 6 + mac + b"\x08\x06" + arp)
raw.sendto(packet(honest, b"honest"), (target, 0))
"""


async def spoofing(runtime: Runtime, directory: Path) -> Any:
    """Return the results of pods that claim other addresses; one of them is in its node's network."""
    victim = await shared(runtime, "victim", 1, Sharing())
    other = await shared(runtime, "other", 1, Sharing())
    liars = [await shared(runtime, "pod", 1, Sharing()), await shared(runtime, "node", 2, Sharing(network=True))]
    await _greeter(other, "other")
    listening = runtime.sockets.listen("10.96.0.1", 4430)
    received: list[str] = []
    for liar in liars:
        receive = (
            "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9999))\nprint('ready', flush=True)\n"
            "while True:\n d = s.recv(99).decode(); print(d, flush=True)\n if d == 'honest': break"
        )
        reading, writing = os.pipe()
        process = await victim.start(config(["python3", "-c", receive], writing, name="receives"))
        os.close(writing)
        file = os.fdopen(reading)
        assert await asyncio.to_thread(file.readline) == "ready\n"
        claimed = [other.ip, plan.gateway(1), plan.node_ip(1), "10.96.0.1", "127.0.0.1", "8.8.8.8"]
        code, output = await run(liar, ["python3", "-c", _SPOOF, victim.ip, liar.ip, *claimed])
        assert code == 0, output
        await process.wait()
        received.append(await asyncio.to_thread(file.read))
        file.close()
    with listening:
        connect = f"python3 -c '{_READ}' {other.ip} 8080"
        return {
            "received": received,
            "other": (await shell(victim, connect))[1].strip(),
            "dialed": await dialed(runtime, other.ip, 8080),
            "service": (await run(victim, ["python3", "-c", _CONNECT, "10.96.0.1", "4430"]))[1].strip(),
        }


_CONNECT = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).getpeername()[0])"
