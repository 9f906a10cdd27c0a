from __future__ import annotations

import ipaddress

import pytest

from hatchway.cluster.network.addresses import Pool, Pools
from hatchway.cluster.network.etcfiles import etc_files


def test_addresses_rest_after_use() -> None:
    pool = Pool(ipaddress.IPv4Network("10.244.1.0/24"))
    assert [pool.take(), pool.take()] == ["10.244.1.2", "10.244.1.3"]
    pool.give_back("10.244.1.2")
    assert pool.take() == "10.244.1.4"


def test_all_but_three_addresses_are_given_until_none_is_left() -> None:
    pool = Pool(ipaddress.IPv4Network("10.244.1.0/24"))
    taken = [pool.take() for _ in range(253)]
    assert taken[0] == "10.244.1.2"
    assert taken[-1] == "10.244.1.254"
    with pytest.raises(OSError, match="no addresses available"):
        pool.take()
    pool.give_back("10.244.1.77")
    assert pool.take() == "10.244.1.77"


def test_pools_know_what_is_taken() -> None:
    pools = Pools(loopback=True)
    address = pools.of(1).take()
    assert address == "127.66.0.2"
    assert address in pools
    assert "127.66.0.3" not in pools
    pools.of(1).give_back(address)
    assert address not in pools


def test_the_pods_own_line_ends_its_hosts_file() -> None:
    files = etc_files(
        {"hosts": "127.0.0.1\tlocalhost", "resolv.conf": "nameserver 10.96.0.10\n"}, "web-0", "10.244.1.2"
    )
    assert files["hosts"] == "127.0.0.1\tlocalhost\n10.244.1.2\tweb-0\n"
    assert files["resolv.conf"] == "nameserver 10.96.0.10\n"
    assert files["hostname"] == "web-0\n"
    assert "localhost" in etc_files({}, "web-0", "10.244.1.2")["hosts"]
