"""Containers of images: the content of their root, and their rights. Layers are made of this machine's busybox."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from hatchway import removal
from hatchway.cluster.capabilitynames import ALL_CAPABILITIES
from hatchway.cluster.network import mountcalls
from hatchway.cluster.network.overlay import mount_overlay
from hatchway.cluster.runtime import (
    ContainerConfig,
    ContainerProcess,
    ImageRoot,
    Mount,
    Privileges,
    Runtime,
    Sandbox,
    Sharing,
    StartError,
)
from tests.integration.network.inside import sandbox
from tests.integration.network.sharing import shared as shared_pod

PATH = "/usr/local/bin:/usr/bin:/bin:/sbin"
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# A comment, and a line that is none.
web:x:1000:1001:Web:/home/web:/bin/sh
broken
alone:x:2000:2000::/:/bin/sh
"""
GROUP = "root:x:0:\nweb:x:1001:\nwheel:x:10:root,web\nmedia:x:44:web\nstaff:x:50:\n"


def busybox_layer(path: Path) -> Path:
    """Make a layer with busybox, its libraries, and links with the names of its programs."""
    program = shutil.which("busybox")
    assert program is not None
    (path / "bin").mkdir(parents=True)
    shutil.copy(program, path / "bin/busybox")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        target = path / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), target)
    for name in subprocess.run([program, "--list"], capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (path / "bin" / name).symlink_to("busybox")
    for name in ("etc", "home/web", "root", "tmp", "var/lib/data"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
    (path / "etc/hosts").write_text("the image's\n")
    (path / "var/lib/data/kept").write_text("from the image\n")
    return path


class Images:
    """Makes containers of images in one pod."""

    def __init__(self, directory: Path, pod: Sandbox) -> None:
        self.directory = directory
        self.pod = pod
        self.base = directory / "layers/base"
        if not self.base.exists():
            busybox_layer(self.base)
        self._made = 0

    def layer(self, **files: str) -> Path:
        """Make a layer. files: path (with `__` for slashes) -> content; "-> x" makes a link, "/" a directory."""
        self._made += 1
        path = self.directory / f"layers/{self._made}"
        path.mkdir(parents=True)
        for name, content in files.items():
            target = path / name.replace("__", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if content == "/":
                target.mkdir()
            elif content.startswith("-> "):
                target.symlink_to(content[3:])
            else:
                target.write_text(content)
        return path

    def config(self, argv: list[str], output: int, **more: Any) -> ContainerConfig:
        layers = [*more.pop("layers", []), self.base]
        (self.directory / "changes").mkdir(exist_ok=True)
        changes = tempfile.mkdtemp(dir=self.directory / "changes")
        root = ImageRoot(tuple(map(str, layers)), changes, tuple(more.pop("volumes", ())))
        env = {"PATH": PATH, **more.pop("env", {})}
        return ContainerConfig(
            name="main", argv=argv, env=env, stdout=output, stderr=output, root=more.pop("root", root), **more
        )

    async def run(self, argv: list[str], container: ContainerProcess | None = None, **more: Any) -> tuple[int, str]:
        """Run a container to its end; return exit code and output, or -1 and the reason if it does not start."""
        with tempfile.TemporaryFile() as file:
            wanted = self.config(argv, file.fileno(), **more)
            try:
                if container is not None:
                    process = await self.pod.exec(container, replace(wanted, root=None))
                else:
                    process = await self.pod.start(wanted)
            except StartError as error:
                return -1, str(error)
            ended = await process.wait()
            file.seek(0)
            return ended.code, file.read().decode(errors="replace")

    async def shell(self, script: str, container: ContainerProcess | None = None, **more: Any) -> tuple[int, str]:
        return await self.run(["sh", "-c", script], container, **more)

    async def text(self, script: str, container: ContainerProcess | None = None, **more: Any) -> str:
        code, output = await self.shell(script, container, **more)
        return output.strip() if code == 0 else f"{code}: {output.strip()}"

    async def waiting(self, **more: Any) -> ContainerProcess:
        """Start a container that sleeps."""
        return await self.pod.start(self.config(["sleep", "1000"], 2, **more))


async def _open(runtime: Runtime, directory: Path, name: str = "web-0") -> Images:
    etc = {"resolv.conf": "nameserver 10.96.0.10\n"}
    return Images(directory, await sandbox(runtime, name, **etc))


async def image_root(runtime: Runtime, directory: Path) -> Any:
    """Return what a container of an image sees in its root."""
    images = await _open(runtime, directory)
    top = images.layer(etc__motd="of the top layer\n")
    many = [images.layer(**{f"layer{number}": "x"}) for number in range(126)]
    secret = directory / "secret"
    secret.mkdir()
    (secret / "token").write_text("t0ken\n")
    token = Mount(str(secret), "/var/run/secrets/kubernetes.io/serviceaccount", read_only=True)
    resolved = images.layer()
    (resolved / "etc").mkdir()
    (resolved / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    found: dict[str, Any] = {
        "users": runtime.users,
        "old kernel": _mounted_by_an_old_kernel(many, directory),
        "top": await images.text("ls /; cat /etc/motd", layers=[top]),
        "layers": await images.text("ls / | grep -c ^layer", layers=many),
        "etc": await images.text("cat /etc/hosts /etc/hostname /etc/resolv.conf; hostname"),
        "linked": await images.text("cat /etc/resolv.conf; ls -l /etc/resolv.conf", layers=[resolved]),
        # These files belong to this machine, so the attempts only set the values that the files already have.
        "kept devices": await images.text(
            "for path in /dev/null /dev/full /proc/self/fd/0; do chmod 666 $path; chown 0:0 $path; done 2>&1; true"
        ),
        "devices": await images.text("ls /dev; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; ls /dev/pts"),
        "etc room": await images.text(
            "df -k /etc/hosts | tail -1 | awk '{print $2}'; head -c 4000000 /dev/zero > /etc/hosts 2>&-; wc -c < /etc/hosts"
        ),
        "shm": await images.text("echo x > /dev/shm/x && cat /dev/shm/x; stat -c %a /dev/shm; df /dev/shm | tail -1"),
        "proc": await images.text(
            "cat /proc/1/comm; ls /proc | grep -c '^[0-9]'; wc -c < /proc/keys; ls /proc/acpi | wc -l"
        ),
        "proc sys": await images.text("echo 1 > /proc/sys/kernel/hostname"),
        "sys": await images.text("ls /sys | grep -c .; touch /sys/x"),
        "token": await images.text("cat /var/run/secrets/kubernetes.io/serviceaccount/token", mounts=[token]),
        "workdir": await images.text("pwd; stat -c '%u %a' /srv/app/new", cwd="/srv/app/new"),
        "umask": await images.text("umask; touch /x; mkdir /y; stat -c %a /x /y"),
        "read only": await images.text(
            "touch /x; touch /var/lib/data/x && cat /var/lib/data/kept; touch /new/x && ls /new; pwd; touch /dev/shm/x"
            "; cat /var/run/secrets/kubernetes.io/serviceaccount/token; echo x >> /etc/hosts; rm /etc/passwd",
            read_only_root=True,
            volumes=["/var/lib/data", "/new"],
            cwd="/work",
            mounts=[token],
        ),
        "volume": await images.text("cat /var/lib/data/kept; touch /vol/x; ls /vol", volumes=["/var/lib/data", "/vol"]),
        "mounts": await images.text("cat /proc/self/mountinfo"),
        "output": await images.text("echo out >> /dev/stdout; echo err >> /dev/stderr"),
        "path": await images.text("echo $PATH $HOME $TERM", env={"PATH": "/bin"}),
    }
    container = await images.waiting()
    await images.text("head -c 100000 /dev/urandom > /x; mkdir -m 0 /closed; touch /closed/x", container)
    found["written"] = container.written_bytes()
    container.kill(signal.SIGKILL)
    await container.wait()
    found["written after its end"] = container.written_bytes()
    found["untouched"] = sorted(os.listdir(images.base))
    removal.remove_path(directory / "changes")
    found["emptied"] = sorted(directory.glob("changes*"))
    return found


def _mounted_by_an_old_kernel(layers: list[Path], directory: Path) -> int:
    """Mount an overlay as on a kernel that lacks the option lowerdir+; return the number of layers that are visible."""
    place = directory / "old"
    for name in ("changes", "mounted"):
        (place / name).mkdir(parents=True)
    unknown = OSError(errno.EINVAL, "lowerdir+ is not known")
    with mock.patch.object(mountcalls, "new_file_system", side_effect=unknown):
        mount_overlay([str(layer) for layer in layers], str(place / "changes"), str(place / "mounted"))
    return len(os.listdir(place / "mounted"))


async def image_users(runtime: Runtime, directory: Path) -> Any:
    """Return users, groups and rights of containers."""
    images = await _open(runtime, directory)
    show = "id -u; id -g; id -G; echo $HOME; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status"

    async def of(script: str = show, **privileges: Any) -> str:
        return await images.text(script, privileges=Privileges(**privileges))

    big = images.layer(etc__passwd="x")
    os.truncate(big / "etc/passwd", 1 << 30)
    queue = images.layer(etc__group="x")
    (queue / "etc/group").unlink()
    os.mkfifo(queue / "etc/group")
    bare = images.layer()
    (bare / "etc").mkdir()
    (bare / "etc/passwd").symlink_to("/proc/self/environ")
    found: dict[str, Any] = {
        "users": runtime.users,
        "root": await of(),
        "web": await of(user="web", groups=(3000,)),
        "web alone": await of(user="web", groups=(3000,), merge_groups=False),
        "number": await of(user="1000"),
        "unknown number": await of(user="4242"),
        "group": await of(user="web:staff"),
        "group number": await of(user="4242:4243"),
        "no user": await of(user="foo"),
        "no group": await of(user="web:foo"),
        "too large": await of(user="4294967296"),
        "negative": await of(user="-1"),
        "outside": await of(user="70000"),
        "no privileges": await of(user="web", no_new_privileges=True),
        "none": await of(capabilities=()),
        "added": await of(capabilities=("NET_ADMIN", "CHOWN")),
        "unconfined": await of(seccomp=""),
        "home": await images.text("echo $HOME", env={"HOME": "/elsewhere"}),
        "big passwd": await images.text("id -u", layers=[big], privileges=Privileges(user="foo")),
        "fifo": await images.text("id -u", layers=[queue], privileges=Privileges(user="web:staff")),
        "environ": await images.text("id -u", layers=[bare], privileges=Privileges(user="foo")),
        "not executable": await images.run(["/etc/passwd"], privileges=Privileges(user="web")),
    }
    setuid = images.layer(bin="/")
    shutil.copy(str(shutil.which("cat")), setuid / "bin/cat-as-root")
    (setuid / "bin/cat-as-root").chmod(0o4755)
    for name, more in (("setuid", {}), ("setuid without new privileges", {"no_new_privileges": True})):
        rights = Privileges(user="web", **more)
        found[name] = await images.text("cat-as-root /proc/self/status | grep Uid", layers=[setuid], privileges=rights)
    container = await images.waiting(privileges=Privileges(user="web", groups=(3000,)))
    found["exec"] = await images.text(show, container)
    groups = "readlink /proc/self/ns/cgroup"
    same = f"test $({groups}) = $(readlink /proc/1/ns/cgroup) && echo same"
    found["control groups"] = await images.text(same, container)
    found["seen"] = await images.text("ps -o user,comm | grep sleep; kill -0 1 && echo may", container)
    # A container that changes its /etc/passwd does not change its user.
    container = await images.waiting()
    await images.text("sed -i s/^root:x:0:0/root:x:5:5/ /etc/passwd", container)
    found["changed"] = await images.text("id -u; echo $HOME", container)
    return found


CALLS = r"""
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
numbers = json.loads(sys.argv[1])
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps({name: call(*numbers[name]) for name in numbers}))
"""


# Enters a new user namespace, and then a new cgroup namespace.
NESTED = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for kind in (0x10000000, 0x02000000):
    print("done" if libc.unshare(kind) == 0 else errno.errorcode[ctypes.get_errno()])
"""


async def image_calls(runtime: Runtime, directory: Path) -> Any:
    """Return the results of system calls under the default seccomp profile."""
    images = await _open(runtime, directory)
    calls = json.loads((directory / "calls.json").read_text())
    programs = images.layer(lib="-> usr/lib", lib64="-> usr/lib64", usr="/")

    async def answers(**privileges: Any) -> Any:
        more = {"layers": [programs], "mounts": [Mount("/usr", "/usr", read_only=True)]}
        argv = ["/usr/bin/python3", "-c", CALLS, json.dumps(calls)]
        code, output = await images.run(argv, privileges=Privileges(**privileges), **more)
        return json.loads(output) if code == 0 else output

    found = {
        "default": await answers(),
        "no new privileges": await answers(no_new_privileges=True, user="web"),
    }
    for name in ("unshare", "clone"):
        # With these capabilities the call is allowed, and would fork this process.
        del calls[name]
    found["admin"] = await answers(capabilities=("SYS_ADMIN", "SYS_CHROOT"))
    found["unconfined"] = await answers(seccomp="")
    more = {"layers": [programs], "mounts": [Mount("/usr", "/usr", read_only=True)]}
    argv = ["/usr/bin/python3", "-c", NESTED]
    found["nested"] = (await images.run(argv, privileges=Privileges(seccomp=""), **more))[1].split()
    return found


# Prints the parts of the machine that a hostile container of an image reaches; the output must be empty.
ATTACK = r"""
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def attempt(name, what):
    try:
        found[name] = what() or "yes"
    except OSError as error:
        found[name] = error.strerror
def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write(path):
    with open(path, "r+") as file:
        file.write("x")
def mount(kind, path, flags=0):
    os.makedirs(path, exist_ok=True)
    call("mount", b"x", path.encode(), kind.encode(), flags, None)
found["descriptors"] = [n for n in range(1024) if os.path.lexists(f"/proc/self/fd/{n}") and n != 3]
found["cgroup"] = open("/proc/self/cgroup").read().strip()
MS_REMOUNT, MS_BIND, MNT_DETACH, MS_MOVE = 32, 4096, 2, 8192
attempt("write core_pattern", lambda: write("/proc/sys/kernel/core_pattern"))
attempt("uncover /proc/sys", lambda: call("umount2", b"/proc/sys", MNT_DETACH))
attempt("uncover /proc/keys", lambda: call("umount2", b"/proc/keys", MNT_DETACH))
attempt("make /proc/sys writable", lambda: call("mount", None, b"/proc/sys", None, MS_REMOUNT | MS_BIND, None))
attempt("make /sys writable", lambda: call("mount", None, b"/sys", None, MS_REMOUNT | MS_BIND, None))
attempt("make /usr writable", lambda: call("mount", None, b"/usr", None, MS_REMOUNT | MS_BIND, None))
attempt("uncover what is below /usr", lambda: call("umount2", b"/usr", MNT_DETACH))
found["user namespace"] = os.readlink("/proc/self/ns/user")
attempt("make all of /sys writable", lambda: call("mount", None, b"/sys", None, MS_REMOUNT, None))
attempt("new /proc", lambda: mount("proc", "/tmp/proc"))
attempt("write in new /proc", lambda: write("/tmp/proc/sys/kernel/core_pattern"))
attempt("new /sys", lambda: mount("sysfs", "/tmp/sys"))
attempt("write in new /sys", lambda: write("/tmp/sys/kernel/uevent_helper"))
attempt("new cgroup", lambda: mount("cgroup2", "/tmp/cgroup"))
attempt("own cgroup namespace", lambda: call("unshare", 0x02000000))
attempt("new tmpfs", lambda: mount("tmpfs", "/tmp/tmpfs"))
attempt("own mounts", lambda: call("unshare", 0x20000))
attempt("uncover /proc/sys again", lambda: call("umount2", b"/proc/sys", MNT_DETACH))
attempt("enter the mounts of 1", lambda: call("setns", os.open("/proc/1/ns/mnt", 0), 0x20000))
others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
def any_of(what):
    errors = []
    for name in others:
        try:
            what(name)
            return "yes"
        except OSError as error:
            errors.append(error.strerror)
    return sorted(set(errors)) or "there are none"
attempt("write in others", lambda: any_of(lambda name: write(f"/proc/{name}/root/proc/sys/kernel/core_pattern")))
attempt("enter others", lambda: any_of(lambda name: call("setns", os.open(f"/proc/{name}/ns/mnt", 0), 0x20000)))
attempt("enter others as processes", lambda: any_of(lambda name: call("setns", os.pidfd_open(int(name)), 0x20000)))
print(json.dumps(found))
"""


async def image_privileged(runtime: Runtime, directory: Path) -> Any:
    """Return what a privileged container may do, and what is still refused to it."""
    images = await _open(runtime, directory)
    programs = images.layer(lib="-> usr/lib", lib64="-> usr/lib64", usr="/")
    found: dict[str, Any] = {"users": runtime.users, "outside root": os.stat("/proc/1").st_uid}
    found["user namespace"] = os.readlink("/proc/self/ns/user")
    for name, capabilities in (("privileged", ALL_CAPABILITIES), ("admin", ("SYS_ADMIN", "SYS_CHROOT"))):
        rights = Privileges(capabilities=capabilities, seccomp="", unmasked_proc=name == "privileged")
        more = {"layers": [programs], "mounts": [Mount("/usr", "/usr", read_only=True)], "privileges": rights}
        code, output = await images.run(["/usr/bin/python3", "-c", ATTACK], **more)
        found[name] = json.loads(output) if code == 0 else output
        container = await images.waiting(**more)
        on_node = Images(directory, await shared_pod(runtime, f"{name}-node", 1, Sharing(processes="node")))
        code, output = await on_node.run(["/usr/bin/python3", "-c", ATTACK], **more)
        found[f"{name} on node"] = json.loads(output) if code == 0 else output
        found[f"{name} exec"] = await images.text("grep CapEff /proc/self/status && mount -t tmpfs x /tmp", container)
    return found


# A container can let a process of its own execute the program file of init. This program tries to overwrite the file.
OVERWRITE = r"""
import os
found = []
for path, flags in (("/proc/self/exe", os.O_RDWR), (f"/proc/self/fd/{os.open('/proc/self/exe', os.O_RDONLY)}", os.O_WRONLY)):
    try:
        os.open(path, flags)
        found.append("opened")
    except OSError as error:
        found.append(error.strerror)
print(found)
"""
# Until /stop exists: tries to write to the program file of each visible process, and to read its environment and
# descriptors.
OVERWRITE_OTHERS = """
touch /seen
while [ ! -e /stop ]; do
    for process in /proc/[0-9]*; do
        case "$(readlink $process/exe)" in *python*) echo $process >> /seen; echo x >> $process/exe;; esac
        case "$(tr '\\0' ' ' < $process/environ)" in *PYTHON*|*VIRTUAL*|*HATCHWAY*) echo $process >> /seen;; esac
        readlink $process/fd/* | grep -e socket: -e /ns/ >> /seen
    done
done 2> /dev/null
"""


async def image_hostile(runtime: Runtime, directory: Path) -> Any:
    """Return the results of images that try to change something outside of their root."""
    images = await _open(runtime, directory)
    outside = directory / "outside"
    outside.mkdir()
    before = _files_below(images.base)

    async def of(script: str = "echo started", mounts: list[Mount] | None = None, **files: str) -> str:
        return await images.text(script, layers=[images.layer(**files)], mounts=mounts or [])

    async def over(path: str, script: str = "echo started", **files: str) -> str:
        return await of(script, [Mount(str(outside), path)], **files)

    up = "../" * 12 + str(outside).lstrip("/")
    found: dict[str, Any] = {
        "etc is /proc/1/root": await of("cat /hosts | head -1", etc="-> /proc/1/root"),
        "etc is /proc": await of(etc="-> /proc"),
        "etc leads out": await of(f"cat {outside}/hosts | head -1", etc=f"-> {up}"),
        "etc is a file": await of(etc="x"),
        "hosts is a directory": await of(etc__hosts="/"),
        "hosts is /": await of(etc__hosts="-> /"),
        "dev is a link": await of("ls -l / | grep -o 'dev.*'; cat /tmp/d/null; echo x > /dev/null", dev="-> /tmp/d"),
        "dev leads out": await of(f"test -c {outside}/null && echo inside", dev=f"-> {up}"),
        "dev is a file": await of(dev="x"),
        "dev is /": await of(dev="-> ."),
        "proc is a link": await of(proc="-> /tmp"),
        "sys is a link": await of(sys="-> /tmp"),
        "proc is a file": await of(proc="x"),
        "over a link": await over("/data/x", f"test -d {outside}/x && ls /data", data=f"-> {up}"),
        "in /proc": await over("/proc/self/attr"),
        "in /proc by a link": await over("/data/self/attr", data="-> /proc"),
        "over /proc": await over("/proc"),
        "over / by a link": await over("/data", data="-> /proc/self/root"),
    }
    for name, volume in (("in /proc", "/proc/self/attr"), ("at /", "/data/.."), ("at a file", "/etc/passwd")):
        found[f"volume {name}"] = await images.text("echo started", volumes=[volume], read_only_root=True)
    # An inherited descriptor of a directory of this machine would be a way out.
    leaks = [await images.text("pwd", cwd=f"/proc/self/fd/{number}") for number in range(3, 40)]
    linked = images.layer(w="-> /proc/self/fd")
    leaks += [await images.text("pwd", cwd=f"/w/{number}/../x", layers=[linked]) for number in range(3, 12)]
    found["working directories"] = sorted({re.sub(r"fd/\d+|w/\d+", "fd/N", text) for text in leaks})
    found["through /proc"] = await images.text("pwd; ls", cwd="/proc/1/root/tmp")
    container = await images.waiting()
    listing = "for n in $(seq 0 99); do readlink /proc/self/fd/$n; done | grep -vc -e '^pipe' -e '/tmp/#' -e deleted"
    found["descriptors"] = [await images.shell(listing), await images.shell(listing, container)]
    found["exec in a descriptor"] = await images.text("pwd", container, cwd="/proc/self/fd/5")
    found["own program"] = await _own_program(images)
    found["others' programs"] = await _other_programs(images)
    found["changed layers"] = _files_below(images.base) != before
    found["outside"] = sorted(os.listdir(outside))
    return found


def _files_below(path: Path) -> list[tuple[str, int, int]]:
    found = ((name, os.lstat(name)) for name in sorted(map(str, path.rglob("*"))))
    return [(name, status.st_size, status.st_mtime_ns) for name, status in found]


async def _own_program(images: Images) -> str:
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    programs = images.layer(lib="-> usr/lib", lib64="-> usr/lib64", usr="/")
    mounts = [
        Mount("/usr", "/usr", read_only=True),
        Mount(str(library.parent), "/py/lib", read_only=True),
    ]
    env = {"PYTHONHOME": "/py", "LD_LIBRARY_PATH": "/py/lib", "PATH": PATH}
    argv = ["/proc/self/exe", "-S", "-c", OVERWRITE]
    _, output = await images.run(argv, layers=[programs], mounts=mounts, env=env)
    return output.strip()


async def _other_programs(images: Images) -> Any:
    program = Path(f"/proc/{os.getpid()}/exe").resolve()
    before = program.stat().st_mtime_ns
    # The container has all rights in its namespaces.
    rights = Privileges(capabilities=ALL_CAPABILITIES, seccomp="", unmasked_proc=True)
    container = await images.pod.start(images.config(["sh", "-c", OVERWRITE_OTHERS], 2, privileges=rights))
    for _ in range(20):
        await images.text("true", container)
    output = await images.text("cat /seen", container)
    # The container's end may kill the process that writes the file, so its exit code does not matter.
    await images.text("touch /stop", container)
    await container.wait()
    return [output, program.stat().st_mtime_ns != before]


async def image_copied(runtime: Runtime, directory: Path) -> Any:
    """Return the results of a container whose changes are on an overlay, which cannot be a layer of another one."""
    images = await _open(runtime, directory)
    for name in ("below", "above", "changes"):
        (directory / name).mkdir()
    mount_overlay([str(directory / "below")], str(directory / "above"), str(directory / "changes"))
    top = images.layer(etc__motd="of the top layer\n")
    os.mknod(top / "etc/hosts", stat.S_IFCHR)
    container = await images.waiting(layers=[top], volumes=["/vol"], read_only_root=True)
    before = container.written_bytes()
    text = (
        "cat /etc/motd; cat /etc/hosts | head -1; touch /x; head -c 100000 /dev/urandom > /vol/x; head -1 /proc/mounts"
    )
    found: dict[str, Any] = {"text": await images.text(text, container)}
    found["written"] = [before, container.written_bytes()]
    found["user"] = await images.text("id -u; touch /tmp/x; stat -c %u /tmp/x", privileges=Privileges(user="web"))
    return found


async def image_sharing(runtime: Runtime, directory: Path) -> Any:
    """Return the results of terminals, of processes in a container's PID namespace, and of pods that share one."""
    images = await _open(runtime, directory)
    container = await images.waiting(privileges=Privileges(user="web"))
    found = {"guest": await images.text("ps -o pid,comm | grep -c sleep; id -u", processes_of=container)}
    for where, running in (("start", None), ("exec", container)):
        script = "tty; echo $TERM; test -t 2 && echo all; echo x > /dev/tty && stat -c %u $(tty)"
        config = images.config(["sh", "-c", script], -1, terminal=True, privileges=Privileges(user="web"))
        if running is None:
            process = await images.pod.start(config)
        else:
            process = await images.pod.exec(running, replace(config, root=None))
        found[f"terminal of {where}"] = await asyncio.to_thread(_read_terminal, process.terminal)
    shared = Images(directory, await shared_pod(runtime, "shared", 1, Sharing(processes="pod")))
    container = await shared.waiting()
    found["shared"] = await shared.text("ps -o comm | grep -c -e ^sleep -e ^pod")
    found["exec in shared"] = await shared.text("ps -o comm | grep -c ^sleep; cat /etc/hostname", container)
    return found


def _read_terminal(descriptor: int) -> str:
    os.set_blocking(descriptor, True)
    text = b""
    # After the end of the process, reads fail with EIO.
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, 1000):
            text += data
    os.close(descriptor)
    return text.decode()
