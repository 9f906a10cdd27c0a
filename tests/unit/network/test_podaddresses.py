from __future__ import annotations

import ipaddress

import pytest

from hatchway.cluster.network.etcdefaults import etc_files, missing_files, shadow
from hatchway.cluster.network.podaddresses import AddressPool, AddressPools


def test_freed_addresses_are_not_used_again_at_once() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.244.1.0/24"))
    assert [pool.take(), pool.take()] == ["10.244.1.2", "10.244.1.3"]
    pool.give_back("10.244.1.2")
    assert pool.take() == "10.244.1.4"


def test_all_addresses_except_three_can_be_allocated() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.244.1.0/24"))
    taken = [pool.take() for _ in range(253)]
    assert taken[0] == "10.244.1.2"
    assert taken[-1] == "10.244.1.254"
    with pytest.raises(OSError, match="no addresses available"):
        pool.take()
    pool.give_back("10.244.1.77")
    assert pool.take() == "10.244.1.77"


def test_pools_contain_allocated_addresses() -> None:
    pools = AddressPools(loopback=True)
    address = pools.of(1).take()
    assert address == "127.66.0.2"
    assert address in pools
    assert "127.66.0.3" not in pools
    pools.of(1).give_back(address)
    assert address not in pools


def test_files_of_a_pods_etc() -> None:
    files = etc_files({"resolv.conf": "nameserver 10.96.0.10\n"}, "web-0")
    assert files["resolv.conf"] == "nameserver 10.96.0.10\n"
    assert files["hostname"] == "web-0\n"
    assert "pam_unix.so" in files["pam.d/other"]
    # A process in a container can run as root, so only these services may accept root without a password.
    assert [name for name, text in files.items() if "pam_rootok" in text] == [
        "pam.d/su", "pam.d/su-l", "pam.d/runuser", "pam.d/runuser-l",
    ]  # fmt: skip


def test_files_that_a_minimal_host_does_not_have() -> None:
    assert "services" not in missing_files(["services", "passwd"])
    assert "http\t80/tcp\n" in missing_files([])["services"]
    assert shadow("root:x:0:0::/root:/bin/sh\n# x\n+::::::\nme:x:1:1:::\n") == (
        "root:*:19000:0:99999:7:::\nme:*:19000:0:99999:7:::\n"
    )
