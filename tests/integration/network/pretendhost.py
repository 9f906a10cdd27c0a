"""Simulate a machine with a network: python pretendhost.py [--open-tun] COMMAND...

COMMAND runs in a network namespace that looks like a machine's, so that tests of egress use no
address outside this machine:

    the simulated host             "the Internet", another namespace
    eth0 192.0.2.10 ------------- 192.0.2.1
    lo   127.0.0.1                203.0.113.5, 203.0.113.53 (DNS), 169.254.169.254 (metadata)

The Internet answers at TCP 8080 (`serve`), echoes UDP at 9000, and has a DNS server; the host answers at TCP 9091 of
127.0.0.1 and TCP 9092 of all addresses. The host's /etc/resolv.conf names a resolver at 127.0.0.53, as
with systemd-resolved. Without root, a user namespace is used. --open-tun: all users may open /dev/net/tun (needs root).
"""

from __future__ import annotations

import os
import select
import socket
import socketserver
import stat
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.netlink import Netlink

HOST, FAR, WEB, NAMESERVER = "192.0.2.10", "192.0.2.1", "203.0.113.5", "203.0.113.53"
METADATA = "169.254.169.254"
BYTES = 1 << 16


class _Web(socketserver.BaseRequestHandler):
    """Answers one line: `who`, `get BYTES`, `put BYTES` (reads them, returns the number), `wait` (until the close)."""

    def handle(self) -> None:
        file = self.request.makefile("rb")
        word, _, number = file.readline().decode().strip().partition(" ")
        if word == "get":
            for _ in range(int(number) // BYTES):
                self.request.sendall(bytes(BYTES))
        elif word == "put":
            left = int(number)
            while left and (data := file.read(min(left, BYTES))):
                left -= len(data)
            self.request.sendall(str(int(number) - left).encode())
        elif word == "wait":
            self.request.recv(1)
        else:
            self.request.sendall(self.client_address[0].encode())


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


def _answer(query: bytes, names: dict[str, str], *, tcp: bool) -> bytes:
    """Answer a query for A records; for names that begin with `long`, only over TCP."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    address = names.get(".".join(labels))
    if address is None:
        return query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
    if kind != 1:
        return query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + question
    count = 200 if labels[0] == "long" else 1
    if count > 1 and not tcp:
        return query[:2] + b"\x83\x80\0\1\0\0\0\0\0\0" + question
    record = b"\xc0\x0c\0\1\0\1\0\0\x01\x2c\0\4"
    records = (
        b"".join(record + bytes([10, 9, 0, i]) for i in range(count))
        if count > 1
        else (record + socket.inet_aton(address))
    )
    return query[:2] + b"\x81\x80\0\1" + struct.pack("!H", count) + b"\0\0\0\0" + question + records


def _serve_dns(ip: str, names: dict[str, str]) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((ip, 53))

    def datagrams() -> None:
        while True:
            data, client = udp.recvfrom(4096)
            udp.sendto(_answer(data, names, tcp=False), client)

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = int.from_bytes(self.rfile.read(2), "big")
            answer = _answer(self.rfile.read(length), names, tcp=True)
            self.wfile.write(len(answer).to_bytes(2, "big") + answer)

    _in_thread(datagrams)
    _in_thread(_Threads((ip, 53), Connection).serve_forever)


def _echo(ip: str) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((ip, 9000))
    while True:
        data, client = udp.recvfrom(65536)
        udp.sendto(data, client)


def _in_thread(run: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=run, args=arguments, daemon=True).start()


def _fork(serve: Callable[[], None], namespace: int | None = None) -> None:
    """Run servers in a child process, which ends with this process; return when the servers listen."""
    ready, listening = os.pipe()
    # The kernel's signal at the end of a parent (PR_SET_PDEATHSIG) does not reach a child of another user.
    parent = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        if namespace is not None:
            linux.setns(namespace, linux.CLONE_NEWNET)
        serve()
        os.close(ready)
        os.close(listening)
        select.select([parent], [], [])
        os._exit(0)
    os.close(listening)
    os.close(parent)
    os.read(ready, 1)
    os.close(ready)


def _internet() -> None:
    for ip in (WEB, FAR, METADATA):
        _in_thread(_Threads((ip, 8080), _Web).serve_forever)
    _in_thread(_echo, WEB)
    _serve_dns(NAMESERVER, {})


def _host() -> None:
    for ip, port in (("127.0.0.1", 9091), ("", 9092)):
        _in_thread(_Threads((ip, port), _Web).serve_forever)
    _serve_dns("127.0.0.53", {"web.example.test": WEB, "inner.corp.test": WEB, "long.example.test": WEB})


def make_world() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid:
        linux.unshare(linux.CLONE_NEWUSER)
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(content)
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    internet = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with Netlink() as netlink:
        loopback = socket.if_nametoindex("lo")
        netlink.set_up(loopback)
        for ip in (WEB, NAMESERVER, METADATA):
            netlink.add_address(loopback, ip)
    linux.unshare(linux.CLONE_NEWNET)
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with Netlink() as netlink:
        netlink.set_up(socket.if_nametoindex("lo"))
        netlink.add_veth("eth0", HOST, "eth0", internet)
        _configure(netlink, HOST, FAR)
        netlink.add_route("0.0.0.0", 0, FAR, socket.if_nametoindex("eth0"))
    linux.setns(internet, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        _configure(netlink, FAR, HOST)
    linux.setns(host, linux.CLONE_NEWNET)
    _fork(_internet, internet)
    _fork(_host)


def _configure(netlink: Netlink, own: str, other: str) -> None:
    index = socket.if_nametoindex("eth0")
    netlink.add_address(index, own)
    netlink.set_up(index)
    netlink.add_link_route(index, other, own)


def main(arguments: list[str]) -> None:
    opens = arguments[0] == "--open-tun"
    make_world()
    linux.mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755")
    Path("/mnt/resolv.conf").write_text("nameserver 127.0.0.53\nsearch corp.test\noptions edns0\n")
    linux.mount("/mnt/resolv.conf", os.path.realpath("/etc/resolv.conf"), None, linux.MS_BIND)
    if opens:
        os.mknod("/mnt/tun", 0o600 | stat.S_IFCHR, os.makedev(10, 200))
        os.chmod("/mnt/tun", 0o666)
        linux.mount("/mnt/tun", "/dev/net/tun", None, linux.MS_BIND)
    command = arguments[opens:]
    # The servers end with this process.
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
