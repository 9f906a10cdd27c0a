"""The private network with real namespaces, as this user and, if this user is root, also as an ordinary user."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.network.conftest import Run
from tests.integration.network.outside import HIDDEN

MakeRun = Callable[..., Run]


def test_two_pods_listen_on_one_port_and_only_the_dialer_reaches_them(make_run: MakeRun) -> None:
    run = make_run("private", "two_pods")
    ips = run.result()
    found = run.outside()
    assert ips == ["10.244.1.2", "10.244.1.3"]
    assert found["isolation"] == "private"
    assert found["pid"] > 1
    assert found["routed"] == ["", ""]
    assert found["dialed"] == ["one", "two"]
    assert found["many"] == 1
    assert found["errors"] == [errno.ECONNREFUSED, errno.EHOSTUNREACH]
    assert found["after cancelling"] == "one"
    assert found["listening"] == [4430, 0.0]
    assert found["listen error"] == errno.EADDRNOTAVAIL
    assert found["closed"] == "the node agent has ended with exit code 0"


def test_a_container_sees_its_pod(make_run: MakeRun) -> None:
    found = make_run("private", "surroundings").result()
    assert found["hostname"] == "web-0"
    assert f"{found['ip']}\tweb-0" in found["hosts"].splitlines()
    assert found["own name"] == found["ip"]
    assert found["localhost"] == "127.0.0.1"
    assert found["resolv"] == "nameserver 10.96.0.10"
    assert "hosts: files dns" in found["nsswitch"]
    assert found["pid"] == "1"
    assert int(found["processes"]) <= 3
    assert found["cwd"] == "/"
    assert "HOME=/root" in found["env"].splitlines()
    assert not [line for line in found["env"].splitlines() if line.startswith("HATCHWAY")]
    assert " ".join(sorted(found["devices"].split())) == (
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    )
    assert found["python"] == "1"
    assert found["addresses"] == "[(1, 'lo'), (2, 'eth0')]"
    assert found["low port"] == "1"
    assert found["null"] == "4"
    assert found["terminal"] == "/dev/pts/0"
    assert found["shared memory"] == "1"
    assert found["privileges"].split() == ["NoNewPrivs:", "1"]
    effective = int(found["capabilities"].split()[1], 16)
    assert effective & (1 << 10), "CAP_NET_BIND_SERVICE"
    assert not effective & (1 << 21), "CAP_SYS_ADMIN"
    # Of the home directories, only the path to the Python interpreter may be visible.
    assert set(found["home"].split()) <= {
        "/home:",
        "/root:",
        ".pyenv",
        ".local",
        *Path.home().parts,
        *Path(__file__).parts,
    }


def test_secrets_of_the_machine_are_not_visible(make_run: MakeRun) -> None:
    home = Path(os.path.expanduser("~"))
    paths = ["/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers", "/etc/kubernetes"]
    paths += [str(home / name) for name in (".ssh", ".kube", ".kube/config", ".aws", ".bash_history", ".profile")]
    paths += ["/root/.bashrc", "/root/.profile", "/proc/kcore", "/boot", "/var/lib/dpkg", "/var/log/dpkg.log"]
    paths += [
        "/run/systemd",
        "/var/run/docker.sock",
        str(Path(__file__).parents[3] / "pyproject.toml"),
        "/proc/1/root/.host",
    ]
    paths.append(str(HIDDEN))
    run = make_run("private", "secrets", {"secrets.json": json.dumps(paths)})
    paths.append(str(run.directory / "secrets.json"))
    found = run.result()
    assert found == {"visible": [], "writable": []}


def test_the_file_system_of_a_node_shows_no_process(make_run: MakeRun) -> None:
    found = make_run("private", "processes_of_nodes").result()
    for path in ("/proc", "/"):
        _, output = found[path]
        assert "cannot access '[0-9]*'" in output and "cannot access 'self/*'" in output, output
        assert "cpu " in output and "sys/kernel/hostname" in output, output


def test_the_file_system_of_a_node_is_made_again_after_an_error(make_run: MakeRun) -> None:
    """The mounts of the failed attempt are not used: the pods' logs would be writable there."""
    found = make_run("private", "nodes_after_an_error").result()
    assert found["error"] == errno.EIO
    assert found["output"].startswith("log\n") and "Read-only file system" in found["output"], found
    assert found["prepared"] == 1


def test_files_that_a_container_writes_are_only_its_own(make_run: MakeRun) -> None:
    found = make_run("private", "writes").result()
    assert found["written"] == [
        "/tmp/written-by-a-container",
        "/etc/x",
        "/root/x",
        "/x",
        "/var/log/x",
        "/run/x",
        "/opt/x",
    ]
    assert found["gone"] == "3"
    assert found["read only"] == ["/dev/shm/x"]
    for path in found["written"]:
        assert not os.path.exists(path)


def test_a_change_of_a_file_s_owner_succeeds_and_changes_nothing(make_run: MakeRun) -> None:
    found = make_run("private", "owners").result()
    # `kubectl cp` runs tar as root, which changes the owners of files.
    assert found == [0, "0 0 0\n" + 4 * "missing\n" + "xinstalled\n"]


def test_mounts_of_volumes(make_run: MakeRun) -> None:
    run = make_run("private", "volumes")
    found = run.result()
    assert found["lines"] == ["content" * 5, "secretcontentcontentsecret", "refused", "refused", "siblings"]
    assert found["code"] == 0
    assert found["written"] == "new\n"
    assert found["nested"]
    assert not found["not there"]
    no = run.directory / "no"
    assert found["missing"] == f'error mounting "{no}" to rootfs at "/data": no such file or directory'
    assert "absolute path other than /" in found["root"]
    assert "absolute path" in found["relative"]
    assert found["kind"].endswith('to rootfs at "/tmp": is a directory')


def test_errors_of_the_start_of_a_container(make_run: MakeRun) -> None:
    run = make_run("private", "errors")
    found = run.result()
    assert found["no such program"] == 'exec: "no-such-program": executable file not found in $PATH'
    assert found["no such file"] == 'exec: "/no/such/file": stat /no/such/file: no such file or directory'
    assert found["directory"] == 'exec: "/usr": is a directory'
    assert found["not executable"] == 'exec: "/etc/passwd": permission denied'
    assert found["format"] == f"exec {run.directory}/nonsense: exec format error"
    assert found["bad cwd"] == 'chdir to cwd ("/etc/passwd/x") set in config.json failed: not a directory'
    assert found["new cwd"] == [0, "/some/where\n"]
    assert found["nothing"] == "no command specified"
    assert "null" in found["null"]
    assert found["large"]
    assert found["too large"].endswith("argument list too long")


def test_exit_codes_and_signals(make_run: MakeRun) -> None:
    found = make_run("private", "processes").result()
    assert found["exit 3"] == 3
    assert found["exec"] == [4, "x\n/tmp\n"]
    assert found["exec error"] == 'exec: "nope": executable file not found in $PATH'
    assert found["shared"] == "shared\n"
    assert found["exec killed"] == [143, 15]
    assert found["terminated"] == [7, 0]
    assert found["exec dies too"] == [137, 9]
    assert found["exec in the dead"] == "the container is not running"
    assert found["killed"] == [137, 9]
    assert found["after removal"] == "the sandbox is gone"


def test_many_pods_at_once(make_run: MakeRun) -> None:
    assert make_run("private", "many").result() == "done"


def test_nothing_outlives_a_killed_control_plane(make_run: MakeRun) -> None:
    run = make_run("private", "for_ever")
    run.wait_for("ready")
    assert _running(run.directory.name)
    run.process.kill()
    deadline = time.monotonic() + 10
    while found := _running(run.directory.name):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def _running(marker: str) -> list[str]:
    """Return the command lines of all other processes with this run's directory in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marker in line:
                found.append(f"{entry.name} {line}")
    return found


def test_the_amount_written_outside_of_volumes_is_known(make_run: Callable[..., Run]) -> None:
    found = make_run("private", "written_bytes").result()
    assert 0 < found["nothing"] < 1 << 20
    assert 0 < found["volume"] < 1 << 20
    assert 3_000_000 <= found["tmp"] < 4_000_000
    assert found["chroot"] == found["ended"] == 0
