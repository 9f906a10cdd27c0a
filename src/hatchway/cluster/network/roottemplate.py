"""Collects the files of this machine that every container sees, once, when the private network starts.

These files are programs, the Python interpreter of Hatchway with its packages, and the files of /etc that every user
may read. They are bind-mounted read-only below a tmpfs, from which each container's root is made (`rootfs.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hatchway.cluster.network import etcdefaults
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.mounts import bind, is_inside, make_read_only, mask

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")

# Names that are never shown: some hosts let every user read them although they hold credentials; others are of no use
# to containers.
_ETC_NAMES = """
.pwd.lock apparmor.d apt cni containerd containers cron.d cron.daily cron.hourly cron.monthly cron.weekly crontab
crypttab default docker environment exports fstab gitconfig group- grub.d gshadow gshadow- hostname hosts init.d
krb5.keytab kubernetes libvirt logrotate.d machine-id modprobe.d modules-load.d mtab NetworkManager netplan network
npmrc nsswitch.conf pam.d passwd- pip.conf ppp rancher rc0.d rc1.d rc2.d rc3.d rc4.d rc5.d rc6.d rcS.d resolv.conf
security shadow shadow- ssh subgid subuid sudoers sudoers.d sysctl.d systemd tmpfiles.d udev wireguard wpa_supplicant
X11
"""
_ETC_HIDDEN = frozenset(_ETC_NAMES.split())

_EMPTY = "/.empty"
_TEMPLATE_FILE = "/template.json"


class Template(NamedTuple):
    """The directories that `prepare` has made.

    path: a tmpfs. It has the read-only trees below programs/, an empty root/, and machine/ with a /proc for the nodes'
        file systems. It also has an empty directory and an empty file, where mounts are prepared before they are moved.
    links: the symbolic links in this machine's root directory (`/bin`), with their targets.
    trees: the paths of the directories that are shown. etc: the names in /etc that are shown.
    """

    path: str
    links: list[tuple[str, str]]
    trees: list[str]
    etc: list[str]

    @property
    def programs(self) -> str:
        """Return the directory with everything that is shown, read-only."""
        return self.path + "/programs"

    @property
    def empty(self) -> str:
        """Return an empty directory that is read-only."""
        return self.programs + _EMPTY

    @property
    def machine(self) -> str:
        """Return a directory whose `proc` describes this machine and shows no process (`topology.py` mounts it)."""
        return self.path + "/machine"

    def stage(self, *, directory: bool) -> str:
        """Return the path of the empty directory, or file, at which mounts are prepared."""
        return f"{self.path}/stage-{'directory' if directory else 'file'}"


def prepare(scratch: str, hidden: Sequence[str] = ()) -> Template:
    """Collect the files that every container sees, below the directory `scratch`. Raises OSError.

    hidden: paths that are never shown.
    """
    linux.mount("tmpfs", scratch, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    programs = scratch + "/programs"
    for name in ("programs", "root", "stage-directory", "machine", "machine/proc"):
        os.mkdir(f"{scratch}/{name}", 0o755)
    os.close(os.open(f"{scratch}/stage-file", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    linux.mount(programs, programs, None, linux.MS_BIND)
    os.mkdir(programs + _EMPTY)
    links = [(path, os.readlink(path)) for path in _PROGRAMS if os.path.islink(path)]
    trees = _outermost([*_program_trees(), *_interpreter_trees()])
    for tree in trees:
        os.makedirs(programs + tree, exist_ok=True)
        linux.mount(tree, programs + tree, None, linux.MS_BIND | linux.MS_REC)
    mask(programs, [path for path in hidden if any(is_inside(path, tree) for tree in trees)], programs + _EMPTY)
    os.mkdir(programs + "/etc")
    os.chmod(programs + "/etc", 0o755)
    _expose("/etc", programs + "/etc", _ETC_HIDDEN)
    with open(programs + "/etc/hosts", "x", encoding="utf-8") as file:
        file.write(etcdefaults.NODE_HOSTS)
    make_read_only(programs)
    template = Template(scratch, links, trees, sorted(os.listdir(programs + "/etc")))
    with open(scratch + _TEMPLATE_FILE, "w", encoding="utf-8") as file:
        json.dump(template._asdict(), file)
    return template


def load_template(scratch: str) -> Template:
    """Open the template that `prepare` has made, in another process of its mount namespace. Raises OSError."""
    with open(scratch + _TEMPLATE_FILE, encoding="utf-8") as file:
        return Template(**json.load(file))


def _program_trees() -> list[str]:
    found = [path for path in _PROGRAMS if os.path.isdir(path) and not os.path.islink(path)]
    if os.path.isdir("/opt"):
        found += [entry.path for entry in os.scandir("/opt") if _public(entry) and entry.is_dir(follow_symlinks=False)]
    return found


def _interpreter_trees() -> list[str]:
    """Return the paths of the running interpreter, its environment and its packages; never a whole home directory."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    homes = {"/", "/root", "/home", os.path.realpath(os.path.expanduser("~"))}
    found: list[str] = []
    for prefix in {sys.base_prefix, sys.base_exec_prefix, sys.prefix, os.path.realpath(sys.base_prefix)}:
        if any(is_inside(home, prefix) for home in homes):
            found += [f"{prefix}/bin", f"{prefix}/lib/{version}"]
        else:
            found.append(prefix)
    found += [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    # The package itself is three levels up from this file; an editable installation has it elsewhere.
    found.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    return [path for path in found if os.path.isdir(path)]


def _outermost(paths: Iterable[str]) -> list[str]:
    out: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if not any(is_inside(path, tree) for tree in out):
            out.append(path)
    return out


def _public(entry: os.DirEntry[str]) -> bool:
    """Return True when every user of the host may read the file."""
    needed = 0o005 if entry.is_dir(follow_symlinks=False) else 0o004
    return entry.stat(follow_symlinks=False).st_mode & needed == needed


def _wholly_public(directory: str) -> bool:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return False
    return all(
        entry.is_symlink()
        or (_public(entry) and (not entry.is_dir(follow_symlinks=False) or _wholly_public(entry.path)))
        for entry in entries
    )


def _expose(source: str, target: str, hidden: frozenset[str] = frozenset()) -> None:
    """Show in the directory `target` the public entries of `source`, without the names in `hidden`."""
    for entry in os.scandir(source):
        shown = f"{target}/{entry.name}"
        if entry.name in hidden:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), shown)
        elif not _public(entry):
            continue
        elif entry.is_file(follow_symlinks=False):
            bind(entry.path, shown)
        elif entry.is_dir(follow_symlinks=False):
            if _wholly_public(entry.path):
                bind(entry.path, shown)
            else:
                os.mkdir(shown, 0o755)
                _expose(entry.path, shown)
