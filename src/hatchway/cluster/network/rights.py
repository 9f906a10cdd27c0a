"""Sets the user of a process in an image's container, and drops its rights, before its program runs.

The order is runc's (libcontainer's init_linux.go, standard_init_linux.go). With no_new_privs, the seccomp filter is set
last. Without it, setting a filter needs CAP_SYS_ADMIN, so the filter is set before the capabilities are limited.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from hatchway.cluster.capabilitynames import DEFAULT_CAPABILITIES
from hatchway.cluster.network import callfilter, capabilities, containerusers
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.accounts import Account
from hatchway.cluster.network.commandlookup import StartFailure, reason
from hatchway.usermaps import Way


class Rights(NamedTuple):
    """The privileges of a container's processes; see `Privileges` in `cluster/runtime.py`.

    way: the cluster's kind of user map. root_of_machine: whether the container's root is this machine's root.
    """

    capabilities: frozenset[str]
    no_new_privileges: bool
    seccomp: str
    unmasked_proc: bool
    way: Way
    root_of_machine: bool

    @classmethod
    def of(cls, privileges: Mapping[str, Any], way: Way, root_of_machine: bool) -> Rights:
        """Read the privileges of a message."""
        names = privileges["capabilities"]
        return cls(
            frozenset(DEFAULT_CAPABILITIES if names is None else (name.upper().removeprefix("CAP_") for name in names)),
            bool(privileges["no_new_privileges"]),
            str(privileges["seccomp"]),
            bool(privileges["unmasked_proc"]),
            way,
            root_of_machine,
        )

    @property
    def administers(self) -> bool:
        """Return True when its processes may mount and make namespaces."""
        return "SYS_ADMIN" in self.capabilities

    @property
    def masked(self) -> bool:
        """Return True when parts of /proc and /sys are hidden or read-only.

        The result is always True if the container's root is this machine's root. The kernel would let such a root write
        there, even from a user namespace.
        """
        return not self.unmasked_proc or self.root_of_machine


def take_rights(report: socket.socket, account: Account, rights: Rights, users: int, *, is_first: bool = False) -> None:
    """Change to the container's user and rights. The caller then executes the program at once. Raises StartFailure.

    report: the child's end of `report_pair`. users: a descriptor of the user namespace of the node's pods; negative for
    this process's own. is_first: whether this is the container's first process.
    """
    followed = report if is_first else None
    kept = capabilities.numbers(rights.capabilities)
    one = rights.way == "one"
    try:
        _own_streams(0 if one else account.uid)
        if users >= 0:
            # This drops all rights outside the new namespace, and gives all rights in it.
            linux.setns(users, linux.CLONE_NEWUSER)
        if one:
            # Limit the rights afterwards: `take_user` may enter a user namespace, which gives all rights in that
            # namespace.
            containerusers.take_user(report, rights.way, *account[:3])
        capabilities.limit_bounding_set(kept)
        if not rights.no_new_privileges:
            _set_filters(account, rights, followed)
        if not one:
            containerusers.take_user(report, rights.way, *account[:3])
        capabilities.limit_to(kept if account.uid == 0 else frozenset())
        if rights.no_new_privileges:
            linux.set_no_new_privileges()
            _set_filters(account, rights, followed)
    except OSError as error:
        if error.errno == errno.EINVAL and not one:
            numbers = f"{account.uid}:{account.gid}"
            raise StartFailure(
                f"cannot run as user {numbers}: this cluster's containers have the users and groups 0 to 65535"
            ) from error
        raise StartFailure(f"cannot take the container's user: {reason(error)}") from error


def _own_streams(uid: int) -> None:
    """Give the standard streams to the user, so that programs can open `/dev/stdout` (runc's fixStdioPermissions)."""
    null = os.stat(os.devnull).st_rdev if os.path.exists(os.devnull) else -1
    for descriptor in range(3):
        found = os.fstat(descriptor)
        if found.st_rdev == null or found.st_uid == uid:
            continue
        # A stream may belong to a user outside the user namespace, or be on a read-only file system.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, uid, -1)


def _set_filters(account: Account, rights: Rights, report: socket.socket | None) -> None:
    """Set the seccomp filters. The process must have CAP_SYS_ADMIN or no_new_privs. Raises StartFailure."""
    programs: list[bytes | None] = []
    if rights.seccomp:
        programs.append(callfilter.default_profile(rights.capabilities))
    if rights.administers or not rights.seccomp:
        programs.append(callfilter.namespace_guard(mounts=rights.administers and rights.root_of_machine))
    try:
        for program in programs:
            if program is not None:
                linux.set_filter(program)
    except OSError as error:
        raise StartFailure(f"cannot filter the container's system calls (seccomp): {reason(error)}") from error
    # On a kernel without seccomp filters (CONFIG_SECCOMP_FILTER), changing users and owners fails; all else works.
    with contextlib.suppress(OSError):
        containerusers.filter_changes(rights.way, account.uid, is_image=True, report=report)
