"""The part of a container's or an exec's life between fork and exec, in the new process.

Everything here raises `StartFailure` with words that runc uses, for the pod's events and status.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NamedTuple, NoReturn

from hatchway.cluster.network import rootfs
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.programs import DEFAULT_PATH, StartFailure, look_up, reason

# The capabilities that container engines leave (moby's oci/caps/defaults.go); all others go.
_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})

# How much of what went wrong is told.
ERROR_BYTES = 8192


class child_exits:
    """A block in a forked child that never comes back: what goes wrong is written to `report` (else stderr)."""

    def __init__(self, report: int = 2) -> None:
        self._report = report

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> NoReturn:
        try:
            text = str(error) if isinstance(error, StartFailure) else f"cannot start the process: {error!r}"
            os.write(self._report, text.encode(errors="replace")[:ERROR_BYTES])
        finally:
            os._exit(127)


class Namespaces(NamedTuple):
    """Descriptors of a sandbox's namespaces."""

    net: int
    uts: int
    ipc: int

    def enter(self) -> None:
        linux.setns(self.net, linux.CLONE_NEWNET)
        linux.setns(self.uts, linux.CLONE_NEWUTS)
        linux.setns(self.ipc, linux.CLONE_NEWIPC)

    def close(self) -> None:
        for descriptor in (self.net, self.uts, self.ipc):
            os.close(descriptor)


def make_root(template: rootfs.Template, namespaces: Namespaces, etc: dict[str, str], config: dict[str, Any]) -> None:
    """Enter a sandbox, and a root of this process's own in it. Raises StartFailure."""
    os.umask(0o022)
    _import_nothing_more()
    try:
        namespaces.enter()
        linux.unshare(linux.CLONE_NEWNS)
        rootfs.build(template, etc=etc, mounts=config["mounts"], read_only_root=config["read_only_root"])
    except rootfs.RootError as error:
        raise StartFailure(str(error)) from error
    except OSError as error:
        raise StartFailure(f"cannot make the container's file system: {error.strerror}") from error


def start(template: rootfs.Template, namespaces: Namespaces, etc: dict[str, str], config: dict[str, Any]) -> NoReturn:
    """Become a container: the first process of a PID namespace that exists already. stdin, stdout, stderr are set."""
    make_root(template, namespaces, etc, config)
    _execute(config)


def enter(namespaces: Namespaces, mount_namespace: int, config: dict[str, Any]) -> NoReturn:
    """Become another process of a running container, in whose PID namespace this process is already."""
    os.umask(0o022)
    _import_nothing_more()
    try:
        namespaces.enter()
        linux.setns(mount_namespace, linux.CLONE_NEWNS)
    except OSError as error:
        raise StartFailure(f"cannot enter the container: {error.strerror}") from error
    _execute(config)


def _import_nothing_more() -> None:
    """In a container, the directories of modules may hold whatever its volumes hold."""
    for finders in (sys.meta_path, sys.path_hooks, sys.path):
        finders.clear()


def _execute(config: dict[str, Any]) -> NoReturn:
    env: dict[str, str] = {"PATH": DEFAULT_PATH, "HOME": "/root", **config["env"]}
    argv: list[str] = config["argv"]
    _change_directory(config["cwd"])
    if not argv or not argv[0]:
        raise StartFailure("no command specified")
    program = look_up(argv[0], env["PATH"])
    _give_up_privileges()
    # Python ignores these two, which a program would inherit.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(program, argv, env)
    except OSError as error:
        raise StartFailure(f"exec {program}: {reason(error)}") from error
    except ValueError as error:
        raise StartFailure(f'exec: "{argv[0]}": {error}') from error


def _change_directory(cwd: str | None) -> None:
    wanted = cwd or "/"
    try:
        os.makedirs(wanted, 0o755, exist_ok=True)
        os.chdir(wanted)
        # A directory outside of the root (`/proc/self/fd/N`) has no path in it.
        os.getcwd()
    except OSError as error:
        raise StartFailure(f'chdir to cwd ("{wanted}") set in config.json failed: {reason(error)}') from error


def _give_up_privileges() -> None:
    for capability in range(linux.capabilities()):
        if capability not in _CAPABILITIES:
            linux.drop_bounding_capability(capability)
    linux.set_no_new_privileges()
