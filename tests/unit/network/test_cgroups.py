"""Control groups: their places, and the values written to their files. Ordinary directories stand for the kernel's.

They do not enforce limits. A directory with files stands for an empty group, and `Groups.rmdir` removes it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatchway.cluster.network import cgroups, processes
from hatchway.cluster.network.cgroups import GroupTree, NoGroups, find_base, make_tree, remove_tree, weight_of
from hatchway.cluster.runtime import GroupLimits, GroupUsage

_FILES = {
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "cgroup.kill": "",
    "cpu.max": "max 100000\n",
    "cpu.weight": "100\n",
    "cpu.stat": "usage_usec 0\n",
    "memory.max": "max\n",
    "memory.current": "0\n",
    "memory.events": "low 0\noom_kill 0\n",
    "memory.oom.group": "0\n",
    "memory.stat": "anon 0\n",
    "memory.swap.max": "max\n",
    "pids.max": "max\n",
}


class Groups:
    """Makes a group's files with its directory, like the kernel. busy: the number of calls of rmdir that will fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        self.busy = 0
        self._mkdir, self._rmdir = Path.mkdir, Path.rmdir
        root.mkdir(parents=True)
        self.fill(root, "cpuset cpu io memory pids")
        monkeypatch.setattr(Path, "mkdir", lambda path, *args, **more: self.mkdir(path, **more))
        monkeypatch.setattr(Path, "rmdir", lambda path: self.rmdir(path))

    def fill(self, group: Path, controllers: str) -> None:
        for name, content in {**_FILES, "cgroup.controllers": controllers + "\n"}.items():
            (group / name).write_text(content)

    def mkdir(self, path: Path, exist_ok: bool = False, **more: object) -> None:
        if self.root not in path.parents:
            self._mkdir(path, exist_ok=exist_ok, **more)  # type: ignore[arg-type]
            return
        self._mkdir(path, exist_ok=exist_ok)
        enabled = (path.parent / "cgroup.subtree_control").read_text()
        self.fill(path, " ".join(enabled.replace("+", " ").split()))

    def vet(self, group: Path, enable: set[str]) -> None:
        """Refuse controllers like the kernel's cgroup_vet_subtree_control_enable."""
        threaded = {"cpu", "cpuset", "pids"}
        if group == self.root or not enable - threaded or not (group / "cgroup.procs").read_text():
            return
        enabled = set((group / "cgroup.subtree_control").read_text().split())
        number = errno.EOPNOTSUPP if enabled & threaded else errno.EBUSY
        raise OSError(number, os.strerror(number), str(group / "cgroup.subtree_control"))

    def rmdir(self, path: Path) -> None:
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if any(entry.is_dir() for entry in path.iterdir()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for entry in path.iterdir():
            entry.unlink()
        self._rmdir(path)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Groups:
    found = Groups(monkeypatch, tmp_path / "fs/cgroup")
    written = cgroups._write

    def write(path: Path, text: str) -> None:
        if path.name == "cgroup.subtree_control":
            found.vet(path.parent, {name.removeprefix("+") for name in text.split()})
            # In the kernel, a write adds to this file. In an ordinary file, it overwrites.
            text = f"{path.read_text()} {text.replace('+', '')}"
        elif path.name == "cgroup.procs" and path.parent.name == "hatchway-main":
            above = path.parent.parent / path.name
            above.write_text("".join(f"{pid}\n" for pid in above.read_text().split() if pid != text))
            text = f"{path.read_text()}{text}\n"
        os.truncate(path, 0)
        written(path, text)

    monkeypatch.setattr(cgroups, "_write", write)
    # As on a machine with systemd.
    monkeypatch.setattr(cgroups, "_SYSTEMD", tmp_path)
    return found


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc"
    path.mkdir()
    (path / "mountinfo").write_text(
        "21 1 0:20 / /proc rw - proc proc rw\n"
        f"30 21 0:26 / {tmp_path}/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    (path / "cgroup").write_text("1:name=systemd:/x\n0::/user.slice/hatchway.scope\n")
    return path


@pytest.mark.parametrize(("user", "below"), [(0, ""), (1000, "user.slice/hatchway.scope")])
def test_root_uses_the_hierarchy_and_others_their_own_group(
    groups: Groups, proc: Path, monkeypatch: pytest.MonkeyPatch, user: int, below: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    own = groups.root / "user.slice/hatchway.scope"
    own.parent.mkdir()
    own.mkdir()
    groups.fill(own, "cpu memory")
    assert find_base(proc) == groups.root / below


@pytest.mark.parametrize(
    ("user", "writable", "controllers", "why"),
    [
        (0, True, "", "has no controllers cpu, memory$"),
        (0, True, "cpu pids", "has no controllers memory$"),
        (0, False, "cpu memory", "not delegated to this user; `systemd-run --user --scope"),
        # The group of a session has fewer controllers than one that systemd delegates.
        (1000, False, "pids", "not delegated to this user; `systemd-run --user --scope"),
        (1000, True, "memory pids", "has no controllers cpu; the machine's administrator can delegate them"),
    ],
)
def test_reasons_why_there_are_no_groups(
    groups: Groups,
    proc: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    writable: bool,
    controllers: str,
    why: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    (proc / "cgroup").write_text("0::/\n")
    (groups.root / "cgroup.controllers").write_text(controllers)
    with pytest.raises(NoGroups, match=why) as caught:
        find_base(proc)
    assert cgroups.why_none(caught.value).startswith("limits of CPU and memory are counted, and not enforced: the ")


def test_a_machine_without_cgroup_version_2(proc: Path) -> None:
    (proc / "mountinfo").write_text("30 21 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\nbroken\n\n")
    with pytest.raises(NoGroups, match="no control groups of version 2"):
        find_base(proc)
    assert cgroups.why_none(OSError(errno.EROFS, "Read-only file system", "/x/y")).endswith(
        ": /x/y: Read-only file system"
    )


def test_no_command_of_systemd_is_recommended_without_systemd(
    groups: Groups, proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_SYSTEMD", tmp_path / "none")
    monkeypatch.setattr(os, "access", lambda *_: False)
    groups.fill(groups.root, "cpu memory")
    with pytest.raises(NoGroups, match="not delegated to this user; systemd does not run here") as caught:
        find_base(proc)
    assert "systemd-run" not in str(caught.value)


@pytest.fixture
def tree(groups: Groups, tmp_path: Path) -> Iterator[Path]:
    made = make_tree(groups.root, "dev", tmp_path / "state/dev")
    yield made
    remove_tree(made)
    assert not made.exists()


def test_the_clusters_own_tree(groups: Groups, tree: Path, tmp_path: Path) -> None:
    assert tree.parent == groups.root and tree.name.startswith("hatchway-dev-")
    for group in (groups.root, tree, tree / "burstable", tree / "besteffort"):
        assert set((group / "cgroup.subtree_control").read_text().split()) == {"cpu", "memory", "pids", "io"}
    assert (tree / "besteffort/cpu.weight").read_text() == "1"
    # The groups of a killed cluster are replaced. A cluster of the same name with another state directory has another
    # tree.
    (tree / "podx").mkdir()
    assert make_tree(groups.root, "dev", tmp_path / "state/dev") == tree
    assert not (tree / "podx").exists()
    other = make_tree(groups.root, "dev", tmp_path / "other/dev")
    assert other != tree
    remove_tree(other)


def test_groups_whose_limits_have_no_effect(groups: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cgroups._write
    monkeypatch.setattr(cgroups, "_write", lambda path, text: None if path.name == "memory.max" else write(path, text))
    with pytest.raises(NoGroups, match="have no effect"):
        make_tree(groups.root, "dev", tmp_path)
    assert not [entry for entry in groups.root.iterdir() if entry.is_dir()]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("enabled", ["", "cpu pids"])
def test_only_the_clusters_own_processes_are_moved(groups: Groups, tmp_path: Path, others: bool, enabled: str) -> None:
    scope = groups.root / "hatchway.scope"
    scope.mkdir()
    groups.fill(scope, "cpu memory pids")
    (scope / "cgroup.subtree_control").write_text(enabled)
    pids = "".join(f"{pid}\n" for pid in (os.getpid(), os.getppid(), *([1 << 30] if others else [])))
    (scope / "cgroup.procs").write_text(pids)
    if others:
        with pytest.raises(NoGroups, match="other processes than the cluster's; `systemd-run --user --scope"):
            make_tree(scope, "dev", tmp_path)
        # Nothing has changed.
        assert (scope / "cgroup.subtree_control").read_text() == enabled
        assert (scope / "cgroup.procs").read_text() == pids
        assert not (scope / "hatchway-main").exists()
    else:
        tree = make_tree(scope, "dev", tmp_path)
        assert (scope / "hatchway-main/cgroup.procs").read_text() == pids
        assert {"cpu", "memory", "pids"} == set((tree / "cgroup.subtree_control").read_text().split())


def read(group: Path | str, *names: str) -> list[str]:
    return [Path(group, name).read_text().strip() for name in names]


LIMITS = ("cpu.weight", "cpu.max", "memory.max", "memory.swap.max")


def test_pods_and_containers(tree: Path, groups: Groups) -> None:
    pods = GroupTree(tree)
    pods.make_pod("u1", "Guaranteed", GroupLimits(1024, 100_000, 64 << 20))
    pods.make_pod("u2", "Burstable", GroupLimits(512))
    pods.make_pod("u3", "Burstable", GroupLimits(512, memory=1 << 20))
    pods.make_pod("u4", "BestEffort", GroupLimits())
    assert read(tree / "podu1", *LIMITS) == ["100", "100000 100000", str(64 << 20), "0"]
    assert read(tree / "burstable/podu2", *LIMITS) == ["59", "max 100000", "max", "max"]
    assert read(tree / "besteffort/podu4", "cpu.weight") == ["1"]
    # The weight of the group of all Burstable pods follows the sum of their requests.
    assert read(tree / "burstable", "cpu.weight") == ["100"]
    group = pods.make_container("u1", "c0ffee", GroupLimits(256, 50_000, 32 << 20))
    assert Path(group) == tree / "podu1/c0ffee"
    assert read(group, *LIMITS, "memory.oom.group") == ["35", "50000 100000", str(32 << 20), "0", "1"]
    pods.update_container(group, GroupLimits(1024, None, None))
    assert read(group, *LIMITS) == ["100", "max 100000", "max", "max"]
    pods.make_pod("u1", "Guaranteed", GroupLimits(2048, 200_000, 1 << 30))
    assert read(tree / "podu1", *LIMITS) == ["174", "200000 100000", str(1 << 30), "0"]
    groups.busy = 2
    pods.remove_container(group)
    assert not Path(group).exists()
    pods.make_container("u3", "left", GroupLimits())
    for uid in ("u1", "u2", "u3", "u3", "unknown"):
        pods.remove_pod(uid)
    assert read(tree / "burstable", "cpu.weight") == ["1"]
    assert [entry.name for entry in (tree / "burstable").iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize(
    ("cluster", "container"),
    [(str(processes.of_cluster()), str(processes.of_cluster() // 4)), ("max", "max"), ("", "")],
)
def test_processes_are_limited(tree: Path, cluster: str, container: str) -> None:
    """cluster, container: the content of pids.max; "" if the group does not have the controller."""
    assert read(tree, "pids.max") == [str(processes.of_cluster())]
    if cluster:
        (tree / "pids.max").write_text(cluster)
    else:
        (tree / "pids.max").unlink()
    pods = GroupTree(tree)
    pods.make_pod("u1", "BestEffort", GroupLimits())
    group = pods.make_container("u1", "c", GroupLimits())
    if cluster:
        assert read(group, "pids.max") == [container]
    assert read(tree / "besteffort/podu1", "pids.max") == ["max"]


def test_controllers_that_were_disabled_are_enabled_again(tree: Path, groups: Groups) -> None:
    pods = GroupTree(tree)
    pods.make_pod("u1", "Burstable", GroupLimits())
    chain = [groups.root, tree, tree / "burstable", tree / "burstable/podu1"]
    for group in chain:
        (group / "cgroup.subtree_control").write_text("pids\n")
    pods.make_container("u1", "c", GroupLimits())
    for group in chain:
        assert {"cpu", "memory"} <= set((group / "cgroup.subtree_control").read_text().split())


def test_the_usage_of_a_container(tree: Path) -> None:
    pods = GroupTree(tree)
    pods.make_pod("u1", "BestEffort", GroupLimits())
    group = pods.make_container("u1", "c", GroupLimits())
    assert not pods.was_out_of_memory(group)
    Path(group, "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods x\n")
    Path(group, "memory.current").write_text("10000\n")
    Path(group, "memory.stat").write_text("anon 3000\nfile 7000\ninactive_file 4000\n")
    Path(group, "memory.events").write_text("low 0\nhigh 0\nmax 5\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert pods.usage(group) == GroupUsage(2.5, 0.5, 6000, 3000)
    assert pods.was_out_of_memory(group)
    with pytest.raises(OSError, match="more memory than the new limit"):
        pods.update_container(group, GroupLimits(memory=9999))
    assert read(group, "memory.max") == ["max"]
    pods.update_container(group, GroupLimits(memory=10000))
    # Only the beginning of a file is read, and a text that is not a number counts as 0.
    Path(group, "memory.current").write_text("9" * 100_000)
    Path(group, "cpu.stat").write_text("usage_usec -1\nusage_usec " + "9" * 50 + "\n" + "x" * 1_000_000)
    Path(group, "memory.stat").write_bytes(b"\xff\0anon 7\n")
    assert pods.usage(group) == GroupUsage(0.0, 0.0, 0, 0)
    pods.remove_container(group)
    assert pods.usage(group) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/x", "x\n", "-x", "x" * 300])
def test_names_cannot_leave_the_tree(tree: Path, name: str) -> None:
    pods = GroupTree(tree)
    with pytest.raises(OSError, match="cannot be a control group's name"):
        pods.make_pod(name, "Guaranteed", GroupLimits())
    pods.make_pod("u1", "Guaranteed", GroupLimits())
    with pytest.raises(OSError, match="cannot be a control group's name"):
        pods.make_container("u1", name, GroupLimits())


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        (0, 1),
        (2, 1),
        (3, 2),
        (102, 17),
        (512, 59),
        (1024, 100),
        (2000, 170),
        (2048, 174),
        (262144, 10000),
        (1 << 40, 10000),
    ],
)
def test_weights(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


def test_weights_grow_with_cpu_shares() -> None:
    found = [weight_of(shares) for shares in range(2, 262144, 97)]
    assert found == sorted(found) and found[0] >= 1 and found[-1] <= 10000
