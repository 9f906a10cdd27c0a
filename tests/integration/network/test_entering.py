"""Processes that are started in hostile containers, and the descriptor that init keeps of each container for this."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.network.conftest import Run

MakeRun = Callable[..., Run]


def test_a_process_gets_the_mounts_of_the_start_of_its_container(make_run: MakeRun) -> None:
    found = make_run("private", "own_mounts").result()
    assert sorted(found) == ["file alone", "file shared", "pipe alone", "pipe shared"]
    for name, result in found.items():
        assert result == [0, "777\nas started\n"], name


def test_a_start_that_a_container_stops_fails_in_time(make_run: MakeRun) -> None:
    message, others, container, seen = make_run("private", "stopped_starts", {"start_seconds": "2"}).result()
    assert message == "cannot start a process: its program did not run within 2 seconds"
    assert others == [0, "runs\n"]
    assert container == 9
    # The command line of a process that is being started contains nothing about this machine.
    assert "''" in seen
    assert set(seen) <= {"''", repr("sleep\x001000")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at the descriptors of the network's first process")
def test_one_descriptor_is_kept_of_each_container_that_runs(make_run: MakeRun) -> None:
    run = make_run("private", "kept_descriptors")
    kept = []
    for number in range(2):
        for what in ("all", "none"):
            path = run.wait_for(f"{number}.{what}")
            kept.append(_mount_namespaces(int((run.directory / "pid").read_text())))
            path.unlink()
    assert run.result() == "done"
    (some, first), (none, second), (again, third), (nothing, fourth) = kept
    assert (some, none, again, nothing) == (2, 0, 2, 0)
    # The other descriptors of init are those for its messages. None is left of starts that have ended.
    assert first == third and second == fourth


def _mount_namespaces(pid: int) -> tuple[int, int]:
    """Return the number of a process's descriptors of mount namespaces, and the number of all its descriptors."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link.startswith("mnt:") for link in links), len(links)


def test_a_container_that_stops_its_nodes_processes_does_not_stop_the_network(make_run: MakeRun) -> None:
    run = make_run("private", "stopped_on_node", {"start_seconds": "2"})
    assert run.result() == [[0, "alive\n"], [0, "alive\n"]]
