"""The three kinds of user maps: servers of Debian, changes of users, and the deletion of files of other users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images.making import NoPackages, debian_root
from tests.integration.network.conftest import NOBODY, ROOT, Run, nobody, why_not_private

# The servers, a shell, and the libraries that they need, without large dependencies that are not needed (Perl, LLVM).
PACKAGES = [
    "base-passwd",
    "coreutils",
    "dash",
    "libc-bin",
    "tzdata",
    "nginx",
    "postgresql-15",
    "postgresql-client-15",
    "redis-server",
    "redis-tools",
    "util-linux",
    "util-linux-extra",
    "libatomic1",
    "libaudit1",
    "libblkid1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libffi8",
    "libgcc-s1",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libjemalloc2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblua5.1-0",
    "liblz4-1",
    "liblzf1",
    "liblzma5",
    "libmount1",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libpcre2-8-0",
    "libpq5",
    "libreadline8",
    "libsasl2-2",
    "libselinux1",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "libuuid1",
    "libxml2",
    "libxslt1.1",
    "libzstd1",
    "lua-bitop",
    "lua-cjson",
    "zlib1g",
]
# Replaces /etc/subuid and /etc/subgid, and mounts a directory at another path, for one process only.
_PRIVATELY = """
mount --bind "$1" "$2"
if [ -n "$3" ]; then mount --bind "$3" /etc/subuid && mount --bind "$3" /etc/subgid; fi
shift 3
exec "$@"
"""

Make = Callable[[str], Run]


class Way:
    """A kind of user map. name: as in `Runtime.users`. subids: the content of /etc/subuid; None not to replace it."""

    def __init__(self, name: str, subids: str | None, root: str) -> None:
        self.name = name
        self._subids = subids
        self._root = root
        self._runs: list[Run] = []
        self._directories: list[Path] = []

    def directory(self) -> Path:
        found = Path(tempfile.mkdtemp(prefix="hatchway-users-"))
        self._directories.append(found)
        (found / "base").mkdir()
        if self.name != "real":
            for path in (found, found / "base"):
                os.chown(path, int(NOBODY), int(NOBODY))
        return found

    def command(self, directory: Path) -> tuple[list[str], dict[str, str]]:
        """Return a command that runs Python with this kind of user map, and its environment."""
        if self.name == "real":
            prefix, env = [sys.executable], {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        else:
            found = nobody()
            assert not isinstance(found, str)
            prefix, env = found
        subids = ""
        if self._subids is not None:
            (directory / "subids").write_text(self._subids)
            subids = str(directory / "subids")
        private = ["unshare", "-m", "sh", "-ec", _PRIVATELY, "sh", self._root, str(directory / "base"), subids]
        return [*private, *prefix], env

    def run(self, scenario: str) -> Run:
        directory = self.directory()
        run = Run(directory, "private", scenario, *self.command(directory))
        self._runs.append(run)
        return run

    def close(self) -> None:
        for run in self._runs:
            run.close()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def debian() -> str:
    try:
        return str(debian_root(*PACKAGES, exactly=True))
    except NoPackages as error:
        pytest.skip(f"{error}")


def _needs(name: str) -> None:
    """Skip the test if this machine does not support this kind of user map."""
    if why_not_private():
        pytest.skip(why_not_private())
    if os.geteuid() != 0:
        pytest.skip("only root can run the network as other users")
    if name != "real" and isinstance(why := nobody(), str):
        pytest.skip(why)
    if name == "mapped" and (shutil.which("newuidmap") is None or not os.path.exists("/etc/subuid")):
        pytest.skip("newuidmap (package uidmap) or /etc/subuid is missing")


_SUBIDS = {"real": None, "mapped": f"{NOBODY}:300000:65536\n", "one": ""}


@pytest.fixture(params=["real", "mapped", "one"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    _needs(request.param)
    subids = _SUBIDS[request.param] if os.path.exists("/etc/subuid") else None
    made = Way(request.param, subids, request.getfixturevalue("debian"))
    yield made
    made.close()


def test_servers_of_images_run_as_their_users(way: Way) -> None:
    found = way.run("servers_of_images").result()
    assert found["users"] == way.name
    one = way.name == "one"
    assert found["nginx"].endswith("hello")
    # If there are several users, the workers run as user 33.
    assert found["nginx users"].count("33") == (0 if one else 2)
    assert found["redis"] == "+OK\r\n+OK\r\n"
    assert found["redis file"] == ("0:0" if one else "101:101")
    assert found["postgres"] == [0, "42"]
    groups = "groups=999(postgres)" if one else "groups=999(postgres),2000"
    assert found["postgres id"] == f"uid=999(postgres) gid=999(postgres) {groups}"
    # With one user, each user of a container sees root's files as its own.
    assert found["postgres files"][0] == "999:999"
    assert found["go on"] == [False, one, False], "only the program that starts redis changes its user"
    code, text = found["by root"]
    assert code == 1 and "cannot be run as root" in text
    assert found["by itself"] == [0, "0" if one else "999"]


def test_a_script_that_executes_itself_as_another_user_ends(way: Way) -> None:
    found = way.run("scripts_that_start_again").result()
    assert found.get("user") == ("101:999" if way.name == "one" else None)
    # If its user did not really change, such a script would execute itself without end.
    assert found["id"].startswith("uid=101(redis) gid=999(postgres)") == (way.name == "one")
    assert found["beside"] == [0, "started"]
    assert found["asking"] == [0, ""]
    assert found["later"] == [0, "sleep"]
    assert found["of others"] is False


def test_what_containers_may_do_with_users(way: Way) -> None:
    found = way.run("changes_of_users").result()
    one = way.name == "one"
    assert found["root id"] == [0, "uid=0(root) gid=0(root) groups=0(root)"]
    assert found["chown"] == [0, "0:0" if one else "33:44"]
    code, text = found["user id"]
    assert code == 0
    assert text.splitlines() == ["uid=1234 gid=1235 groups=1235", "1234:1235"]
    assert [line for line in found["user may not"][1].splitlines() if line == "no"] == ["no", "no"]
    made = ["0", "0"] if one else ["1", "1"]
    assert [line for line in found["device"][1].splitlines() if "mknod" not in line] == [*made, "fifo", "none"]
    assert found["of all"][0] == [0, "0"]
    assert found["of all"][1] == [0, "65535"]
    largest = "cannot run as user 65536:0: this cluster's containers have the users and groups 0 to 65535"
    assert found["of all"][2] == ([-1, largest] if way.name == "real" else [0, "65536"])
    assert found["of all"][3][0] == -1
    assert found["nested"] == [0, "0"]
    # Even this machine's own root cannot change its /proc/sys.
    assert found["system"][1].endswith("no")
    code, text = found["host program"]
    first, second = text.splitlines()
    assert code == 0 and not set(first.split()) & {"0"}, "programs of this machine cannot change their user"
    assert second.split() == ["0", "0", "0"], "their changes of owners succeed without an effect"
    assert " 1 " not in found["host program maps"][1]


def test_files_of_other_users_are_deleted(way: Way) -> None:
    run = way.run("foreign_files")
    left = json.loads(run.wait_for("left").read_text())
    assert left == {"code": 0, "output": ""}
    state = run.directory / "state"
    owner = (state / "volume/a/b/file").stat().st_uid
    assert owner == {"real": 1234, "mapped": 300000 + 1233, "one": int(NOBODY)}[way.name]
    code = "import sys, pathlib; from hatchway.removal import remove_path; remove_path(pathlib.Path(sys.argv[1]))"
    command, env = way.command(run.directory)
    subprocess.run([*command, "-c", code, str(state)], env=env, cwd="/", check=True)
    assert not state.exists()
    (run.directory / "deleted").touch()
    run.result()


def test_a_range_that_is_too_small_leaves_one_user(debian: str) -> None:
    _needs("mapped")
    made = Way("mapped", f"{NOBODY}:300000:1000\n", debian)
    directory = made.directory()
    command, env = made.command(directory)
    code = "from hatchway import usermaps; found = usermaps.enter(); print(found.way, found.reason)"
    try:
        done = subprocess.run([*command, "-c", code], env=env, cwd="/", check=True, capture_output=True, text=True)
    finally:
        made.close()
    assert done.stdout.startswith("one the range of this user in /etc/subuid has 1000 numbers of 65536 that are needed")


def test_a_range_that_newuidmap_refuses_leaves_one_user(debian: str, tmp_path: Path) -> None:
    _needs("mapped")
    made = Way("mapped", f"{NOBODY}:300000:65536\n", debian)
    directory = made.directory()
    command, env = made.command(directory)
    # The code below replaces the range by one that does not belong to this user.
    code = (
        "from hatchway import usermaps; usermaps.find_range = lambda path: range(400000, 465536); "
        "found = usermaps.enter(); print(found.way, found.reason, open('/proc/self/uid_map').read().split())"
    )
    try:
        done = subprocess.run([*command, "-c", code], env=env, cwd="/", check=True, capture_output=True, text=True)
    finally:
        made.close()
    assert done.stdout.startswith("one newgidmap failed: ")
    assert done.stdout.rstrip().endswith(f"['0', '{NOBODY}', '1']")


def test_a_host_without_newuidmap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from hatchway import usermaps

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nonexistent")
    found: Any = usermaps.choose()
    assert found.way == "one" and found.reason.startswith("newuidmap is not installed; `apt install uidmap`")
