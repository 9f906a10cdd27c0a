"""A container's file system: the host's programs read-only, everything else its own.

The root is a tmpfs. Into it come, by recursive bind mounts (a user namespace allows no others of host mounts):
the host's program directories, the interpreter that runs Hatchway and the packages it has loaded, and of /etc what
every user of the host may read. Nothing else of the host is there: no home directory, no state directory, no key.
Whatever a container writes is in its tmpfs or in its volumes.

`prepare` runs once, in init; `build` runs in each container's process, in a mount namespace of its own. The root is
finished before the process changes into it: what a volume holds is resolved by `beneath` alone, with the new root, or
the volume, as the limit of the walk. What another container exchanges in a shared volume meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hatchway.cluster import beneath
from hatchway.cluster.network import syscalls as linux

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")

# World-readable on some hosts although they hold credentials, or of no use to a container.
_ETC_NAMES = """
.pwd.lock apparmor.d apt cni containerd containers cron.d cron.daily cron.hourly cron.monthly cron.weekly crontab
crypttab default docker environment exports fstab gitconfig group- grub.d gshadow gshadow- hostname hosts init.d
krb5.keytab kubernetes libvirt logrotate.d machine-id modprobe.d modules-load.d mtab NetworkManager netplan network
npmrc nsswitch.conf pam.d passwd- pip.conf ppp rancher rc0.d rc1.d rc2.d rc3.d rc4.d rc5.d rc6.d rcS.d resolv.conf
security shadow shadow- ssh subgid subuid sudoers sudoers.d sysctl.d systemd tmpfiles.d udev wireguard wpa_supplicant X11
"""
_ETC_HIDDEN = frozenset(_ETC_NAMES.split())

_TOP_DIRECTORIES = ("/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/run/lock", "/srv", "/sys")
DIRECTORIES = (*_TOP_DIRECTORIES, "/var/cache", "/var/lib", "/var/log", "/var/spool")
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

# What runc protects by default (libcontainer's specconv: maskedPaths, readonlyPaths): uid 0 may be the host's root.
_PROC_MASKED = ("acpi", "asound", "kcore", "keys", "latency_stats", "scsi", "sched_debug", "timer_list", "timer_stats")
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_SYS_MASKED = ("firmware", "kernel/debug", "kernel/security", "devices/virtual/powercap")

_EMPTY = "/.empty"
_TEMPLATE_FILE = "/template.json"
_KEPT_FLAGS = (
    (os.ST_NOSUID, linux.MS_NOSUID),
    (os.ST_NODEV, linux.MS_NODEV),
    (os.ST_NOEXEC, linux.MS_NOEXEC),
    (os.ST_NOATIME, linux.MS_NOATIME),
    (os.ST_NODIRATIME, linux.MS_NODIRATIME),
    (os.ST_RELATIME, linux.MS_RELATIME),
)


class RootError(Exception):
    """The file system cannot be made as asked; the message is for the one who wrote the pod."""


class Template(NamedTuple):
    """What `prepare` has made: `path` is a tmpfs with the read-only trees below programs/, an empty root/, and an empty
    directory and file where mounts are made ready before they are moved to their place."""

    path: str
    links: list[tuple[str, str]]
    trees: list[str]
    etc: list[str]

    @property
    def programs(self) -> str:
        return self.path + "/programs"

    @property
    def empty(self) -> str:
        """An empty directory that is read-only."""
        return self.programs + _EMPTY

    def stage(self, *, directory: bool) -> str:
        return f"{self.path}/stage-{'directory' if directory else 'file'}"


def prepare(scratch: str, hidden: Sequence[str] = ()) -> Template:
    """Collect what every container sees, below the directory `scratch`. hidden: paths that are never shown."""
    linux.mount("tmpfs", scratch, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    programs = scratch + "/programs"
    for name in ("programs", "root", "stage-directory"):
        os.mkdir(f"{scratch}/{name}", 0o755)
    os.close(os.open(f"{scratch}/stage-file", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    linux.mount(programs, programs, None, linux.MS_BIND)
    os.mkdir(programs + _EMPTY)
    links = [(path, os.readlink(path)) for path in _PROGRAMS if os.path.islink(path)]
    trees = _outermost([*_program_trees(), *_interpreter_trees()])
    for tree in trees:
        os.makedirs(programs + tree, exist_ok=True)
        linux.mount(tree, programs + tree, None, linux.MS_BIND | linux.MS_REC)
    _mask(programs, [path for path in hidden if any(_inside(path, tree) for tree in trees)], programs + _EMPTY)
    os.mkdir(programs + "/etc")
    os.chmod(programs + "/etc", 0o755)
    _expose("/etc", programs + "/etc", _ETC_HIDDEN)
    make_read_only(programs)
    template = Template(scratch, links, trees, sorted(os.listdir(programs + "/etc")))
    with open(scratch + _TEMPLATE_FILE, "w", encoding="utf-8") as file:
        json.dump(template._asdict(), file)
    return template


def load_template(scratch: str) -> Template:
    """What `prepare` has made there, for another process in its mount namespace. Raises OSError."""
    with open(scratch + _TEMPLATE_FILE, encoding="utf-8") as file:
        return Template(**json.load(file))


def _program_trees() -> list[str]:
    found = [path for path in _PROGRAMS if os.path.isdir(path) and not os.path.islink(path)]
    if os.path.isdir("/opt"):
        found += [entry.path for entry in os.scandir("/opt") if _public(entry) and entry.is_dir(follow_symlinks=False)]
    return found


def _interpreter_trees() -> list[str]:
    """The running interpreter, its environment and its packages; never a whole home directory."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    homes = {"/", "/root", "/home", os.path.realpath(os.path.expanduser("~"))}
    found: list[str] = []
    for prefix in {sys.base_prefix, sys.base_exec_prefix, sys.prefix, os.path.realpath(sys.base_prefix)}:
        if any(_inside(home, prefix) for home in homes):
            found += [f"{prefix}/bin", f"{prefix}/lib/{version}"]
        else:
            found.append(prefix)
    found += [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    # Three levels up from here is the package itself, which an editable installation has elsewhere.
    found.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    return [path for path in found if os.path.isdir(path)]


def _inside(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def _outermost(paths: Iterable[str]) -> list[str]:
    out: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if not any(_inside(path, tree) for tree in out):
            out.append(path)
    return out


def _public(entry: os.DirEntry[str]) -> bool:
    """Whether every user of the host may read it."""
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
    """Show in the directory `target` what in `source` is public, leaving out the names in `hidden`."""
    for entry in os.scandir(source):
        shown = f"{target}/{entry.name}"
        if entry.name in hidden:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), shown)
        elif not _public(entry):
            continue
        elif entry.is_file(follow_symlinks=False):
            _bind(entry.path, shown)
        elif entry.is_dir(follow_symlinks=False):
            if _wholly_public(entry.path):
                _bind(entry.path, shown)
            else:
                os.mkdir(shown, 0o755)
                _expose(entry.path, shown)


def _bind(source: str, target: str) -> None:
    """Bind a file or directory, or copy a link, to a name that does not exist yet."""
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    _make_empty(target, directory=stat.S_ISDIR(mode))
    try:
        linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    except FileNotFoundError:
        # What was bound when the cluster started has been replaced on the host (a package added a user to /etc/group):
        # what is bound is still there to be read, but the kernel binds nothing again that has no name any more.
        if stat.S_ISDIR(mode):
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def _make_empty(path: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def make_read_only(target: str) -> None:
    """Make the mount at `target` and all below it read-only, keeping their other (in user namespaces: locked) flags."""
    try:
        linux.mount_read_only(target)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        remount_read_only(target)


def remount_read_only(target: str) -> None:
    """`make_read_only` for kernels before 5.12, one mount at a time."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    for escaped in points:
        point = escaped
        for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(code, character)
        if _inside(point, target):
            kept = os.statvfs(point).f_flag
            flags = sum(flag for there, flag in _KEPT_FLAGS if kept & there)
            linux.mount(None, point, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | flags)


def build(template: Template, *, etc: dict[str, str], mounts: Sequence[dict[str, Any]], read_only_root: bool) -> None:
    """Make a container's root and change into it. To be called in a fresh mount namespace, PID namespace included.

    mounts: objects as `Mount` of the runtime's contract. Raises RootError, or OSError with what was tried.
    """
    root = template.path + "/root"
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    _fill(template, root)
    make_devices(root)
    mount_proc_and_sys(root, template.empty)
    _make_etc(template, root, etc)
    with beneath.opened(beneath.open_directory(root)) as top:
        for mount in sorted(mounts, key=lambda mount: mount["path"].rstrip("/").count("/")):
            _mount_volume(template, top, mount)
        os.fchdir(top)
    # The old root comes to lie on the new one, and is taken off it again (pivot_root(2)).
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    if read_only_root:
        linux.mount(
            None, "/", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        )


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


def make_devices(root: str) -> None:
    """Fill the empty directory `dev` below `root`."""
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}")
    for name, to in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{to}", f"{root}/dev/{name}")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    for name in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    quiet = linux.MS_NOSUID | linux.MS_NOEXEC
    linux.mount("devpts", f"{root}/dev/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620")
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", quiet | linux.MS_NODEV, "mode=1777,size=64m")


def mount_proc_and_sys(root: str, empty: str) -> None:
    """Mount what the kernel tells below `root`, without what a container must not see or change of the machine."""
    quiet = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    proc, sys_ = root + "/proc", root + "/sys"
    linux.mount("proc", proc, "proc", quiet)
    for name in _PROC_READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
            linux.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | quiet)
    _mask(proc, [f"/{name}" for name in _PROC_MASKED], empty)
    try:
        linux.mount("sysfs", sys_, "sysfs", quiet | linux.MS_RDONLY)
    except OSError as error:
        # Where part of the host's own /sys is hidden, the kernel shows none of it: programs then find it empty.
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise
    else:
        _mask(sys_, [f"/{name}" for name in _SYS_MASKED], empty)


def _mask(root: str, paths: Iterable[str], empty: str) -> None:
    """Hide files and directories below `root`. empty: an empty directory."""
    for path in paths:
        try:
            mode = os.stat(root + path).st_mode
        except FileNotFoundError:
            continue
        source = empty if stat.S_ISDIR(mode) else "/dev/null"
        linux.mount(source, root + path, None, linux.MS_BIND | linux.MS_REC)


def _make_etc(template: Template, root: str, own: dict[str, str]) -> None:
    for name in template.etc:
        if name not in own:
            _bind(f"{template.programs}/etc/{name}", f"{root}/etc/{name}")
    os.symlink("/proc/mounts", root + "/etc/mtab")
    for name, content in own.items():
        path = f"{root}/etc/{name}"
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)


def _mount_volume(template: Template, root: int, mount: dict[str, Any]) -> None:
    path = mount["path"]
    wish = f'error mounting "{_shown_source(mount)}" to rootfs at "{path}"'
    if not path.startswith("/") or os.path.normpath(path) in ("/", "//"):
        raise RootError(f"{wish}: it must be an absolute path other than /")
    try:
        with beneath.opened(open_source(mount)) as source:
            directory = stat.S_ISDIR(os.fstat(source).st_mode)
            with beneath.opened(_open_mount_point(template, root, path, directory)) as target:
                if os.path.samestat(os.fstat(target), os.fstat(root)):
                    raise RootError(f"{wish}: it leads to /")
                _attach(template, source, target, directory=directory, read_only=bool(mount.get("read_only")))
    except OSError as error:
        raise RootError(f"{wish}: {os.strerror(error.errno or errno.EIO).lower()}") from error


def _shown_source(mount: dict[str, Any]) -> str:
    """What is mounted, in a pod's words where it has some."""
    return "/".join(part for part in (mount.get("inside") or mount["source"], mount.get("sub_path")) if part)


def open_source(mount: dict[str, Any]) -> int:
    """The descriptor of what a mount shows; see `Mount` in the runtime's contract. Raises OSError."""
    found = os.open(mount["source"], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if mount.get("inside"):
        with beneath.opened(found) as root:
            found = beneath.open_in_root(root, mount["inside"])
    if mount.get("sub_path"):
        with beneath.opened(found) as volume:
            found = beneath.open_beneath(volume, mount["sub_path"])
    return found


def _attach(template: Template, source: int, target: int, *, directory: bool, read_only: bool) -> None:
    """Show `source` at `target`. It becomes read-only where no other container sees it, then moves to its place."""
    stage = template.stage(directory=directory)
    linux.mount(f"/proc/self/fd/{source}", stage, None, linux.MS_BIND | linux.MS_REC)
    if read_only:
        make_read_only(stage)
    linux.mount(stage, f"/proc/self/fd/{target}", None, linux.MS_MOVE)


def _open_mount_point(template: Template, root: int, path: str, directory: bool) -> int:
    kind: beneath.Make = "directory" if directory else "file"
    while True:
        try:
            target = beneath.open_in_root(root, path, kind, keep_parent=True)
            break
        except beneath.ReadOnlyParent as error:
            with beneath.opened(error.directory) as place:
                _mirror(template, place)
    if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
        os.close(target)
        number = errno.ENOTDIR if directory else errno.EISDIR
        raise OSError(number, os.strerror(number))
    return target


def _mirror(template: Template, place: int) -> None:
    """Put a writable directory with the same entries in the place of the directory `place` on a read-only mount.

    A mount point below a read-only tree (`/usr/share/nginx/html`) needs a directory to be made there. An overlay
    would do, but not every kernel allows one in a user namespace.
    """
    stage = template.stage(directory=True)
    linux.mount("tmpfs", stage, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    with beneath.opened(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)) as listed:
        names = os.listdir(listed)
    for name in names:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        with beneath.opened(entry):
            mode = os.fstat(entry).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink("", dir_fd=entry), f"{stage}/{name}")
                continue
            _make_empty(f"{stage}/{name}", directory=stat.S_ISDIR(mode))
            linux.mount(f"/proc/self/fd/{entry}", f"{stage}/{name}", None, linux.MS_BIND | linux.MS_REC)
    linux.mount(stage, f"/proc/self/fd/{place}", None, linux.MS_MOVE)
