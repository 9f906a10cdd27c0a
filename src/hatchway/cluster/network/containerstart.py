"""The steps of the new process of a container or an exec between fork(2) and exec(3).

All functions raise `StartFailure`, with runc's messages, which the pod's events and status show.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hatchway.cluster.network import callfilter, cgroups, containerusers, processes, rootfs, terminals
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.commandlookup import DEFAULT_PATH, StartFailure, look_up, reason
from hatchway.cluster.network.forked import report_mounts
from hatchway.cluster.network.imagestart import enter_image, start_in_image
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.cluster.network.roottemplate import Template
from hatchway.cluster.network.volumemounts import RootError
from hatchway.cluster.terminalsize import set_terminal_size
from hatchway.usermaps import Way

# The capabilities that container engines leave (moby's oci/caps/defaults.go); all others are dropped.
_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})


def make_root(
    template: Template,
    namespaces: Namespaces,
    etc: dict[str, str],
    config: dict[str, Any],
    report: socket.socket | None = None,
) -> None:
    """Enter a sandbox, and make this process's own root in it. Raises StartFailure.

    report: the socket for `report_mounts`; None to report nothing.
    """
    os.umask(0o022)
    _disable_imports()
    try:
        namespaces.enter()
        linux.unshare(linux.CLONE_NEWNS)
        if report is not None:
            # Report before the root is built: /proc must still be the parent's.
            report_mounts(report)
        rootfs.build(template, etc=etc, mounts=config["mounts"], read_only_root=config["read_only_root"])
    except RootError as error:
        raise StartFailure(str(error)) from error
    except OSError as error:
        raise StartFailure(f"cannot make the container's file system: {error.strerror}") from error


def start(
    template: Template,
    namespaces: Namespaces,
    etc: dict[str, str],
    config: dict[str, Any],
    report: socket.socket,
    *,
    is_first: bool,
) -> NoReturn:
    """Become a container, in a PID namespace that exists already.

    This process's standard streams are set already, unless it gets a terminal.

    report: the child's end of `report_pair`. is_first: whether this is the namespace's first process. The first process
    limits the namespace to half of the processes that the node may have.
    """
    _join_group(config["group"])
    if is_first:
        processes.limit_here(config["processes"] // 2)
    if config["image"] is not None:
        os.umask(0o022)
        _disable_imports()
        start_in_image(template, namespaces, etc, config, report, functools.partial(_execute, config))
    make_root(template, namespaces, etc, config, report)
    _execute(config, {"HOME": "/root", **config["env"]}, lambda: _give_up_privileges(config["users"]))


def enter(namespaces: Namespaces, mount_namespace: int, config: dict[str, Any], report: socket.socket) -> NoReturn:
    """Become another process of a running container. This process is in the container's PID namespace already.

    mount_namespace: the namespace with which the container was started. The container may have made other mount
    namespaces since then, with its own mounts over paths that this process trusts. report: the child's end of
    `report_pair`.
    """
    _join_group(config["group"])
    os.umask(0o022)
    _disable_imports()
    if config["account"] is not None:
        enter_image(namespaces, mount_namespace, config, report, functools.partial(_execute, config))
    try:
        namespaces.enter()
        linux.setns(mount_namespace, linux.CLONE_NEWNS)
    except OSError as error:
        raise StartFailure(f"cannot enter the container: {error.strerror}") from error
    _execute(config, {"HOME": "/root", **config["env"]}, lambda: _give_up_privileges(config["users"]))


def _disable_imports() -> None:
    """Disable imports: in a container, directories of modules may be volumes with any content."""
    for finders in (sys.meta_path, sys.path_hooks, sys.path):
        finders.clear()


def _join_group(group: str) -> None:
    """Move this process to its container's control group. Call it before this process changes its root."""
    try:
        if group:
            cgroups.join(group)
    except OSError as error:
        raise StartFailure(f"cannot join the container's control group: {reason(error)}") from error


def _limit(processes: int) -> None:
    """Limit the processes of all containers together, because they have one user.

    The node agent keeps the higher limit that it was started with.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = min(limit for limit in (soft, hard, processes) if limit >= 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))


def _execute(config: dict[str, Any], env: dict[str, str], give_up_privileges: Callable[[], None]) -> NoReturn:
    env = {"PATH": DEFAULT_PATH, **env}
    argv: list[str] = config["argv"]
    if config["terminal"]:
        _take_terminal(config["console"], config["size"])
    _change_directory(config["cwd"])
    if not argv or not argv[0]:
        raise StartFailure("no command specified")
    _limit(config["processes"])
    give_up_privileges()
    program = look_up(argv[0], env["PATH"])
    # Python ignores these two signals, and programs would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(program, argv, env)
    except OSError as error:
        raise StartFailure(f"exec {program}: {reason(error)}") from error
    except ValueError as error:
        raise StartFailure(f'exec: "{argv[0]}": {error}') from error


def _take_terminal(console: int, size: list[int] | None) -> None:
    try:
        shown, own = terminals.open_terminal()
        if size is not None:
            set_terminal_size(shown, *size)
        terminals.hand_over(console, shown)
        terminals.adopt_terminal(own)
    except OSError as error:
        raise StartFailure(f"cannot make the process's terminal: {reason(error)}") from error


def _change_directory(cwd: str | None) -> None:
    wanted = cwd or "/"
    try:
        os.makedirs(wanted, 0o755, exist_ok=True)
        os.chdir(wanted)
        # A directory outside of the root (`/proc/self/fd/N`) has no path below the root.
        os.getcwd()
    except OSError as error:
        raise StartFailure(f'chdir to cwd ("{wanted}") set in config.json failed: {reason(error)}') from error


def _give_up_privileges(users: Way) -> None:
    kept = _CAPABILITIES if users == "one" else _CAPABILITIES - containerusers.OTHER_USERS
    for capability in range(linux.capabilities()):
        if capability not in kept:
            linux.drop_bounding_capability(capability)
    linux.set_no_new_privileges()
    # On a kernel without filters (CONFIG_SECCOMP_FILTER), changes of owners fail; all else works.
    with contextlib.suppress(OSError):
        guard = callfilter.namespace_guard(mounts=False)
        if guard is not None:
            linux.set_filter(guard)
        containerusers.filter_changes(users, 0, is_image=False)
