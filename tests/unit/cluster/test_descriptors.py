from __future__ import annotations

from hatchway.cluster.descriptors import ClientQuota


def test_one_client_cannot_use_the_whole_quota() -> None:
    quota = ClientQuota(total=10, each=6)
    assert [quota.take("a") for _ in range(8)] == [True] * 5 + [False] * 3
    assert [quota.take("b") for _ in range(5)] == [True] * 3 + [False] * 2
    # A client with fewer connections gets the freed connection.
    quota.give_back("a")
    assert not quota.take("a")
    assert quota.take("c")
    quota = ClientQuota(total=100, each=6)
    assert [quota.take("a") for _ in range(8)] == [True] * 6 + [False] * 2


def test_a_few_clients_cannot_use_the_whole_quota() -> None:
    quota = ClientQuota(total=1000, each=500)
    for client in "abcdef":
        while quota.take(client):
            pass
    assert all(quota.take("another") for _ in range(5))


def test_returned_connections_do_not_count() -> None:
    quota = ClientQuota(total=3, each=2)
    for _ in range(100):
        assert quota.take("a")
        assert quota.take("b")
        quota.give_back("a")
        quota.give_back("b")
    assert quota.take("c")


def test_the_quota_follows_the_limit_of_descriptors() -> None:
    quota = ClientQuota.of_process(0.25)
    assert quota.total >= 16
    assert quota.each <= quota.total // 2
