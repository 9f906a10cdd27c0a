from __future__ import annotations

from hatchway.cluster.descriptors import ClientQuota


def test_one_client_never_takes_everything() -> None:
    quota = ClientQuota(total=10, each=6)
    assert [quota.take("a") for _ in range(8)] == [True] * 5 + [False] * 3
    assert [quota.take("b") for _ in range(5)] == [True] * 3 + [False] * 2
    # What a client gives back goes to clients that hold less.
    quota.give_back("a")
    assert not quota.take("a")
    assert quota.take("c")
    quota = ClientQuota(total=100, each=6)
    assert [quota.take("a") for _ in range(8)] == [True] * 6 + [False] * 2


def test_a_few_clients_do_not_take_everything() -> None:
    quota = ClientQuota(total=1000, each=500)
    for client in "abcdef":
        while quota.take(client):
            pass
    assert all(quota.take("another") for _ in range(5))


def test_what_is_given_back_is_forgotten() -> None:
    quota = ClientQuota(total=3, each=2)
    for _ in range(100):
        assert quota.take("a")
        assert quota.take("b")
        quota.give_back("a")
        quota.give_back("b")
    assert quota.take("c")


def test_its_size_follows_the_limit_of_descriptors() -> None:
    quota = ClientQuota.of_process(0.25)
    assert quota.total >= 16
    assert quota.each <= quota.total // 2
