"""The loopback sockets of a door: no other program may get requests for the door's host names."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hatchway.door.dooroptions import DoorOptions
from hatchway.door.listeners import describe_listener, listen
from hatchway.errors import HatchwayError

_create = socket.create_server


def _has_ipv6() -> bool:
    try:
        _create(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def lacks(monkeypatch: pytest.MonkeyPatch) -> Callable[[socket.AddressFamily, int], None]:
    """Return a function that makes all new sockets of an address family fail with an errno."""

    def make(missing: socket.AddressFamily, number: int) -> None:
        def create(address: Any, *, family: socket.AddressFamily, backlog: int) -> socket.socket:
            if family == missing:
                raise OSError(number, os.strerror(number))
            return _create(address, family=family, backlog=backlog)

        monkeypatch.setattr(socket, "create_server", create)

    return make


@contextlib.contextmanager
def _listening(port: int = 0, address: str = "localhost") -> Iterator[list[socket.socket]]:
    found = listen(DoorOptions(address=address, port=port))
    try:
        yield found
    finally:
        for sock in found:
            sock.close()


@needs_ipv6
@pytest.mark.parametrize("address", ["localhost", DoorOptions().address])
def test_a_door_listens_on_both_loopback_addresses_at_the_same_port(address: str) -> None:
    with _listening(address=address) as found:
        (first, second) = [describe_listener(sock) for sock in found]
        port = found[0].getsockname()[1]
        assert (first, second) == (f"127.0.0.1:{port}", f"[::1]:{port}")


@needs_ipv6
def test_a_port_in_use_on_one_loopback_address_is_refused() -> None:
    with contextlib.closing(_create(("::1", 0), family=socket.AF_INET6)) as other:
        port = other.getsockname()[1]
        with pytest.raises(HatchwayError) as caught, _listening(port):
            pass
        assert caught.value.message == f"cannot listen on [::1]:{port}: address already in use"
        assert "--port 0" in caught.value.hint
        # The socket on the other address is closed.
        _create(("127.0.0.1", port)).close()


@needs_ipv6
def test_port_0_chooses_a_port_that_is_free_on_both_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[socket.socket] = []

    def create(address: Any, *, family: socket.AddressFamily, backlog: int) -> socket.socket:
        if family == socket.AF_INET6 and not others:
            others.append(_create(address, family=family))
        return _create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", create)
    with _listening() as found:
        ports = {sock.getsockname()[1] for sock in found}
        assert len(found) == 2 and len(ports) == 1
        assert others[0].getsockname()[1] not in ports
    others[0].close()


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_machine_without_ipv6(lacks: Callable[[socket.AddressFamily, int], None], number: int) -> None:
    lacks(socket.AF_INET6, number)
    with _listening() as found:
        assert [sock.getsockname()[0] for sock in found] == ["127.0.0.1"]


@needs_ipv6
def test_a_machine_without_ipv4(lacks: Callable[[socket.AddressFamily, int], None]) -> None:
    lacks(socket.AF_INET, errno.EADDRNOTAVAIL)
    with _listening() as found:
        assert [sock.getsockname()[0] for sock in found] == ["::1"]


def test_other_errors_are_not_ignored(lacks: Callable[[socket.AddressFamily, int], None]) -> None:
    lacks(socket.AF_INET6, errno.EACCES)
    with pytest.raises(HatchwayError, match="permission denied"), _listening():
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(HatchwayError, match=r"cannot listen on 192\.0\.2\.7:0: cannot assign requested address"):
        listen(DoorOptions(address="192.0.2.7", port=0))
