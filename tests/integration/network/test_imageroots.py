"""Containers of images: their root file system, users and rights, as this user and as an ordinary one."""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.network.conftest import Run

Find = Callable[..., Any]

pytestmark = pytest.mark.skipif(
    shutil.which("busybox") is None, reason="busybox is missing, of which the tests make images"
)

# The capabilities that container engines leave to root (moby's oci/caps/defaults.go).
DEFAULT_CAPABILITIES = "00000000a80425fb"
NO_CAPABILITIES = "0" * 16


_FOUND: dict[tuple[bool, str], Any] = {}


@pytest.fixture
def find(make_run: Callable[..., Run], user: tuple[list[str], dict[str, str], bool]) -> Find:
    """Return a function that returns the result of a scenario; the scenario runs once for each user of this machine."""

    def run(scenario: str, files: dict[str, str] | None = None) -> Any:
        key = (user[2], scenario)
        if key not in _FOUND:
            made = make_run("private", scenario, files)
            _FOUND[key] = {"directory": str(made.directory), **made.result()}
        return _FOUND[key]

    return run


def test_the_root_of_a_container(find: Find) -> None:
    found = find("image_root")
    assert "of the top layer" in found["top"].splitlines()
    assert found["layers"] == "126" and found["old kernel"] == 126
    own = "nameserver 10.96.0.10"
    assert found["etc"].splitlines() == ["127.0.0.1\tlocalhost", "10.244.1.2\tweb-0", "web-0", own, "web-0"]
    assert found["linked"].splitlines()[0] == own
    # The user root in the container may be root of this machine. Some versions of chmod(1) skip equal permissions.
    refusals = found["kept devices"].splitlines()
    assert len(refusals) >= 3 and all("Read-only file system" in line for line in refusals)
    assert found["devices"].split() == (
        [
            "fd",
            "full",
            "mqueue",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
            "4",
            "ptmx",
        ]
    )
    room, written = map(int, found["etc room"].split()[-2:])
    assert 1024 <= room <= 1100 and 1_000_000 <= written <= room * 1024, found["etc room"]
    assert found["shm"].split()[:4] == ["x", "1777", "shm", "65536"]
    # /proc shows the first process and its children, and nothing of the hidden files.
    assert re.fullmatch(r"sh\n[234]\n0\n0", found["proc"])
    assert "Read-only file system" in found["proc sys"]
    assert "Read-only file system" in found["sys"]
    assert found["token"] == "t0ken"
    assert found["workdir"] == "/srv/app/new\n0 755"
    assert found["umask"].split() == ["0022", "644", "755"]
    assert found["path"] == "/bin /root"
    assert found["output"] == "out\nerr"


def test_with_a_read_only_root_volumes_are_writable(find: Find) -> None:
    found = find("image_root")
    assert found["read only"].splitlines() == [
        "1: touch: /x: Read-only file system",
        "from the image",
        "x",
        "/work",
        "t0ken",
        "sh: can't create /etc/hosts: Read-only file system",
        "rm: can't remove '/etc/passwd': Read-only file system",
    ]
    assert found["volume"].split("\n") == ["from the image", "x"]


def test_nothing_of_a_container_gets_into_its_layers_or_shows_the_machine(find: Find) -> None:
    found = find("image_root")
    assert found["untouched"] == ["bin", "etc", "home", "lib", "lib64", "root", "tmp", "var"]
    assert found["directory"] not in found["mounts"]
    assert found["mounts"].splitlines()[0].split()[4:6] == ["/", "rw,relatime"]
    assert 4096 <= found["written"] < 100 << 20 and found["written after its end"] == 0
    assert found["emptied"] == []


def test_a_container_has_the_user_of_its_spec(find: Find) -> None:
    found = find("image_users")
    one = found["users"] == "one"

    def user(name: str) -> list[str]:
        uid, gid, groups, home = found[name].splitlines()[:4]
        # With one user there are no supplementary groups.
        return [uid, gid, home] if one else [uid, gid, groups, home]

    def expected(uid: str, gid: str, groups: str, home: str) -> list[str]:
        return [uid, gid, home] if one else [uid, gid, groups, home]

    assert user("root") == expected("0", "0", "0 10", "/root")
    assert user("web") == expected("1000", "1001", "1001 10 44 3000", "/home/web")
    assert user("web alone") == expected("1000", "1001", "1001 3000", "/home/web")
    assert user("number") == expected("1000", "1001", "1001 10 44", "/home/web")
    assert user("unknown number") == expected("4242", "0", "0", "/")
    assert user("group") == expected("1000", "50", "50 10 44", "/home/web")
    assert user("group number") == expected("4242", "4243", "4243", "/")
    assert user("exec") == user("web")
    assert found["control groups"] == "same"
    assert found["changed"] == "0\n/root"
    assert found["home"] == "/elsewhere"
    assert found["no user"] == "-1: unable to find user foo: no matching entries in passwd file"
    assert found["no group"] == "-1: unable to find group foo: no matching entries in group file"
    assert found["too large"] == found["negative"] == "-1: uids and gids must be in range 0-2147483647"
    # An /etc/passwd of a gigabyte, or one that links to this process's environment, is not read. Neither is a FIFO.
    assert found["big passwd"] == found["environ"] == found["no user"]
    assert found["fifo"] == "-1: unable to find group staff: no matching entries in group file"
    assert found["not executable"] == [-1, 'exec: "/etc/passwd": permission denied']
    if not one:
        assert found["outside"] == (
            "-1: cannot run as user 70000:0: this cluster's containers have the users and groups 0 to 65535"
        )


def test_a_container_has_the_rights_of_its_spec(find: Find) -> None:
    found = find("image_users")

    def rights(name: str) -> dict[str, str]:
        return dict(re.findall(r"^(\w+):\s+(\w+)$", found[name], re.MULTILINE))

    for name in ("root", "unconfined"):
        status = rights(name)
        assert status["CapBnd"] == status["CapPrm"] == status["CapEff"] == DEFAULT_CAPABILITIES
        assert status["CapInh"] == status["CapAmb"] == NO_CAPABILITIES
        assert status["NoNewPrivs"] == "0"
    for name in ("web", "exec", "no privileges"):
        status = rights(name)
        assert status["CapBnd"] == DEFAULT_CAPABILITIES
        assert {status[kind] for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {NO_CAPABILITIES}
    assert rights("none")["CapBnd"] == NO_CAPABILITIES
    assert int(rights("added")["CapEff"], 16) == 1 << 12 | 1 << 0
    assert rights("no privileges")["NoNewPrivs"] == "1"
    assert rights("root")["Seccomp"] == "2"
    # This filter only forbids cgroup namespaces (`test_system_calls_are_forbidden_as_container_engines_do`).
    assert rights("unconfined")["Seccomp"] == "2"
    if found["users"] != "one":
        # A setuid program runs as root, unless allowPrivilegeEscalation is false.
        assert found["setuid"] == "Uid:\t1000\t0\t0\t0"
    assert found["setuid without new privileges"] == "Uid:\t1000\t1000\t1000\t1000"


# Name -> (number of the system call by machine, arguments, result under the default profile of container engines).
# The argument -1 is an invalid descriptor.
CALLS: dict[str, tuple[dict[str, int], list[int], str]] = {
    "mount": ({"x86_64": 165, "aarch64": 40}, [0, 0, 0, 0, 0], "EPERM"),
    "umount2": ({"x86_64": 166, "aarch64": 39}, [0, 0], "EPERM"),
    "open_tree": ({"x86_64": 428, "aarch64": 428}, [-1, 0, 0], "EPERM"),
    "bpf": ({"x86_64": 321, "aarch64": 280}, [0, 0, 0], "EPERM"),
    "keyctl": ({"x86_64": 250, "aarch64": 219}, [0, 0, 0, 0, 0], "EPERM"),
    "kexec_load": ({"x86_64": 246, "aarch64": 104}, [0, 0, 0, 0], "EPERM"),
    "perf_event_open": ({"x86_64": 298, "aarch64": 241}, [0, 0, 0, 0, 0], "EPERM"),
    "userfaultfd": ({"x86_64": 323, "aarch64": 282}, [0], "EPERM"),
    "io_uring_setup": ({"x86_64": 425, "aarch64": 425}, [1, 0], "EPERM"),
    "unshare": ({"x86_64": 272, "aarch64": 97}, [0x10000000], "EPERM"),
    "clone": ({"x86_64": 56, "aarch64": 220}, [0x10000000, 0, 0, 0, 0], "EPERM"),
    "clone3": ({"x86_64": 435, "aarch64": 435}, [0, 0], "ENOSYS"),
    "setns": ({"x86_64": 308, "aarch64": 268}, [-1, 0], "EPERM"),
    "open_by_handle_at": ({"x86_64": 304, "aarch64": 265}, [-1, 0, 0], "EPERM"),
    "pivot_root": ({"x86_64": 155, "aarch64": 41}, [0, 0], "EPERM"),
    "reboot": ({"x86_64": 169, "aarch64": 142}, [0, 0, 0, 0], "EPERM"),
    "syslog": ({"x86_64": 103, "aarch64": 116}, [10, 0, 0], "EPERM"),
    "personality": ({"x86_64": 135, "aarch64": 92}, [0x40000], "EPERM"),
    "question for the personality": ({"x86_64": 135, "aarch64": 92}, [0xFFFFFFFF], "done"),
    "socket of AF_ALG": ({"x86_64": 41, "aarch64": 198}, [38, 5, 0], "EPERM"),
    "socket of AF_VSOCK": ({"x86_64": 41, "aarch64": 198}, [40, 1, 0], "EPERM"),
    "socket of AF_INET": ({"x86_64": 41, "aarch64": 198}, [2, 1, 0], "done"),
    "ptrace": ({"x86_64": 101, "aarch64": 117}, [0, 0, 0, 0], "done"),
    "chroot": ({"x86_64": 161, "aarch64": 51}, [0], "EFAULT"),
    "getpid": ({"x86_64": 39, "aarch64": 172}, [], "done"),
    "a call of the future": ({"x86_64": 999, "aarch64": 999}, [], "ENOSYS"),
    "getpid of x32": ({"x86_64": 0x40000000 + 39}, [], "ENOSYS"),
}


def test_system_calls_are_forbidden_as_container_engines_do(find: Find) -> None:
    machine = platform.machine()
    calls = {name: [numbers[machine], *more] for name, (numbers, more, _) in CALLS.items() if machine in numbers}
    if not calls:
        pytest.skip(f"CALLS has no numbers of system calls for {machine}")
    found = find("image_calls", {"calls.json": json.dumps(calls)})
    wanted = {name: CALLS[name][2] for name in calls}
    assert found["default"] == wanted
    assert found["no new privileges"] == wanted
    # With the capability, the profile allows mount and umount2, so the kernel checks their arguments.
    assert (found["admin"]["mount"], found["admin"]["umount2"]) == ("EFAULT", "EFAULT")
    assert found["admin"]["keyctl"] == found["admin"]["io_uring_setup"] == "EPERM"
    assert found["unconfined"]["keyctl"] != "EPERM"
    # A new user namespace is allowed, but no new cgroup namespace: its root could be the cgroup of the cluster itself.
    assert found["nested"] == ["done", "EPERM"]


def test_a_privileged_container_may_do_anything_in_its_own_namespaces(find: Find) -> None:
    found = find("image_privileged")
    # If root of the container is root of this machine, it still cannot change what the kernel lets that user change.
    never = ("write ", "new cgroup", "own cgroup", "make all of /sys", "make /usr", "uncover what")
    if found["users"] == "real":
        never += ("uncover ", "make ", "new /", "enter ")
    for how in ("privileged", "admin", "privileged on node", "admin on node"):
        result = found[how]
        assert result.pop("descriptors") == [0, 1, 2]
        # The container has its own user namespace, so settings of a namespace (binfmt_misc) do not affect the cluster.
        assert result.pop("user namespace") not in ("", found["user namespace"])
        assert result["new tmpfs"] == result["own mounts"] == "yes"
        assert {name for name in result if name.startswith(never) and result[name] == "yes"} == set(), how
        assert len([name for name in result if name.startswith(never)]) >= 7
        # An error other than a refusal would show a mistake in the attempt itself.
        assert "Error(" not in str(result)
    assert re.fullmatch(r"CapEff:\s+[0-9a-f]+", found["privileged exec"]), found["privileged exec"]
    assert int(found["privileged exec"].split()[1], 16) & 1 << 21


def test_a_hostile_image_changes_nothing_outside_of_its_root(find: Find) -> None:
    found = find("image_hostile")
    assert found["outside"] == []
    assert found["changed layers"] is False
    # Links are resolved below the root of the container.
    for name in ("etc is /proc/1/root", "etc leads out"):
        assert found[name] == "127.0.0.1\tlocalhost"
    assert found["dev is a link"] == "dev -> /tmp/d"
    assert found["dev leads out"] == "inside"
    assert found["over a link"] == "x"
    assert found["through /proc"] == "/tmp"
    refused = {
        "etc is /proc": "no such file or directory",
        "etc is a file": "not a directory",
        "hosts is a directory": "not a directory",
        "hosts is /": "it leads to /",
        "dev is a file": "not a directory",
        "dev is /": "it leads to /",
        "proc is a link": 'filesystem "proc" must be mounted on ordinary directory',
        "proc is a file": 'filesystem "proc" must be mounted on ordinary directory',
        "sys is a link": 'filesystem "sysfs" must be mounted on ordinary directory',
        "in /proc": '"/proc/self/attr" cannot be mounted because it is inside /proc',
        "in /proc by a link": '"/data/self/attr" cannot be mounted because it is inside /proc',
        "over /proc": '"/proc" cannot be mounted because it is inside /proc',
        "over / by a link": "it leads to /",
        "volume in /proc": '"/proc/self/attr" cannot be mounted because it is inside /proc',
        "volume at /": "it leads to /",
        "volume at a file": "cannot mount volume over existing file, file exists",
    }
    for name, why in refused.items():
        assert re.fullmatch(f'-1: error mounting .* to rootfs at "[^"]*": {re.escape(why)}', found[name]), found[name]


def test_a_container_reaches_no_descriptor_or_program_of_the_machine(find: Find) -> None:
    found = find("image_hostile")
    assert all(text.startswith("-1: mkdir cwd (") for text in found["working directories"]), found
    assert found["exec in a descriptor"].startswith('-1: chdir to cwd ("/proc/self/fd/5") set in config.json failed')
    # There are only the three standard streams and the descriptor of the listed directory itself.
    assert found["descriptors"] == [[0, "1\n"], [0, "1\n"]]
    assert not re.search("opened", str(found["own program"]))
    assert found["others' programs"] == ["", False]


def test_terminals_and_shared_process_namespaces(find: Find) -> None:
    found = find("image_sharing")
    # A container of another user that joins the PID namespace of the first one sees its process.
    assert found["guest"] == "1\n0"
    for how in ("start", "exec"):
        assert found[f"terminal of {how}"].split() == ["/dev/pts/0", "xterm", "all", "x", "1000"]
    assert found["shared"] == "2"
    assert found["exec in shared"] == "1\nshared"


def test_without_an_overlay_the_image_is_copied(find: Find) -> None:
    found = find("image_copied")
    lines = found["text"].splitlines()
    assert lines[:3] == ["of the top layer", "127.0.0.1\tlocalhost", "touch: /x: Read-only file system"]
    # At first, only mount points were added to the container's copy; then a file of 100,000 bytes was written.
    before, after = found["written"]
    assert before < 100_000 <= after - before < 200_000
    assert found["user"] == "1000\n1000"
