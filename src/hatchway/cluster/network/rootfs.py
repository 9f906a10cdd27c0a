"""Builds a container's file system: this machine's programs, read-only, and directories of its own.

The root is a tmpfs. The files that `roottemplate.py` has collected are mounted into it by recursive bind mounts,
because a user namespace allows no other kind for the machine's mounts. Nothing else of the machine is in the root: no
home directory, no state directory, no key. Whatever a container writes is in its tmpfs or in its volumes.

`build` runs in each container's process, in a mount namespace of its own. The root is complete, with volumes
(`volumemounts.py`), before the process changes into it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hatchway import beneath
from hatchway.cluster.network import etcdefaults
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.kernelfiles import make_devices, mount_proc, mount_sys
from hatchway.cluster.network.mounts import bind
from hatchway.cluster.network.roottemplate import Template
from hatchway.cluster.network.volumemounts import mount_volume

_TOP_DIRECTORIES = ("/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/run/lock", "/srv", "/sys")
DIRECTORIES = (*_TOP_DIRECTORIES, "/var/cache", "/var/lib", "/var/log", "/var/spool")


def build(template: Template, *, etc: dict[str, str], mounts: Sequence[dict[str, Any]], read_only_root: bool) -> None:
    """Make a container's root and change into it. Call it in new mount and PID namespaces.

    mounts: each with the fields of `Mount` in `cluster/runtime.py`. Raises RootError, or OSError that names the failed
    step.
    """
    root = template.path + "/root"
    # Half of this machine's memory, as for an emptyDir in memory without a sizeLimit.
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=50%")
    _fill(template, root)
    make_devices(root + "/dev")
    mount_proc(root + "/proc", template.empty)
    mount_sys(root + "/sys", template.empty)
    _make_etc(template, root, etc)
    with beneath.closing(beneath.open_directory(root)) as top:
        for mount in sorted(mounts, key=lambda mount: mount["path"].rstrip("/").count("/")):
            mount_volume(template, top, mount)
        os.fchdir(top)
    # The old root is now mounted on top of the new one; unmount it (pivot_root(2)).
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    if read_only_root:
        linux.mount(
            None, "/", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        )


def enter_nothing(template: Template) -> None:
    """Change into an empty, read-only root, in a mount namespace of this process's own."""
    root = template.path + "/root"
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_RDONLY, "mode=555,size=4k")
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")


def _fill(template: Template, root: str) -> None:
    for path in DIRECTORIES:
        os.makedirs(root + path, 0o755, exist_ok=True)
    os.mkdir(root + "/root", 0o700)
    for path in ("/tmp", "/var/tmp"):
        os.mkdir(root + path)
        os.chmod(root + path, 0o1777)
    for path, to in (*template.links, ("/var/run", "/run"), ("/var/lock", "/run/lock")):
        os.symlink(to, root + path)
    for tree in template.trees:
        os.makedirs(root + tree, 0o755, exist_ok=True)
        linux.mount(template.programs + tree, root + tree, None, linux.MS_BIND | linux.MS_REC)


def _make_etc(template: Template, root: str, own: dict[str, str]) -> None:
    own = {**etcdefaults.missing_files(template.etc), **own}
    for name in template.etc:
        if name not in own:
            bind(f"{template.programs}/etc/{name}", f"{root}/etc/{name}")
    os.symlink("/proc/mounts", root + "/etc/mtab")
    for name, content in own.items():
        path = f"{root}/etc/{name}"
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    with open(f"{root}/etc/passwd", encoding="utf-8", errors="replace") as file:
        accounts = etcdefaults.shadow(file.read())
    with open(
        os.open(f"{root}/etc/shadow", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8"
    ) as file:
        file.write(accounts)
