"""Code that `hatchway exec` and `hatchway shell` share."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from hatchway.cli import printing
from hatchway.errors import ApiError
from hatchway.kube.connection import Connection
from hatchway.kube.helperimage import helper_image
from hatchway.kube.overrides import ChosenCluster
from hatchway.kube.streams.remotecommand import RemoteCommand, StreamOptions
from hatchway.kube.workload import parse_workload
from hatchway.remote import console
from hatchway.remote.ephemeral import add_shell_container, exit_code_of
from hatchway.remote.outcome import is_missing_command
from hatchway.remote.podcontainer import PodContainer, explain_refusal, find_pod_container
from hatchway.remote.session import exit_code, run_session
from hatchway.remote.shellimage import SHELL_IMAGE
from hatchway.remote.shellpod import CONTAINER, running_shell_pod
from hatchway.remote.shells import WAKE, attached_shell, shell_commands
from hatchway.wire.channels import CommandResult


async def run_in_pod(
    target: str,
    namespace: str | None,
    container: str,
    command: list[str],
    cluster: ChosenCluster,
    *,
    stdin: bool,
    tty: bool,
    quiet: bool,
) -> int:
    """Run a command in the container that the command line names; return its exit code. Raises HatchwayError."""
    if tty and stdin and not console.is_terminal(console.STDIN):
        note("standard input is not a terminal, so the command gets no terminal")
        tty = False
    connection = Connection.load(*cluster)
    try:
        workload = parse_workload(target, namespace, connection.namespace)
        chosen = await find_pod_container(connection.client, workload, container)
        if chosen.note and not quiet:
            note(chosen.note)
        wanted = StreamOptions(chosen.container, stdin=stdin, tty=tty)
        try:
            with console.ending_signals():
                result = await run_session(
                    lambda: RemoteCommand.exec(connection, chosen.namespace, chosen.name, command, wanted),
                    stdin=stdin,
                    tty=tty,
                )
        except ApiError as error:
            raise await explain_refusal(error, str(chosen), "exec", connection.client, chosen.namespace) from error
        return exit_code(result, str(chosen))
    finally:
        await connection.aclose()


def note(text: str) -> None:
    """Print a message for the user on standard error, separate from the output of the command."""
    if console.is_terminal(console.STDERR):
        printing.note(text)


@dataclass(frozen=True, slots=True)
class ShellRequest:
    """The options of `hatchway shell`.

    shell: the program; "" for the best one that the container has.
    image: the image of a pod or container that is made for the shell; "" for the usual one.
    debug: True to make an ephemeral container even when the pod has a shell.
    deadline: seconds after which Kubernetes ends a pod that was made for the shell.
    """

    shell: str
    image: str
    debug: bool
    deadline: int


async def open_shell(
    target: str, namespace: str | None, container: str, asked: ShellRequest, cluster: ChosenCluster
) -> int:
    """Open a shell in a container, or in an ephemeral container if it has none. Return its exit code.

    Raises HatchwayError.
    """
    connection = Connection.load(*cluster)
    try:
        workload = parse_workload(target, namespace, connection.namespace)
        chosen = await find_pod_container(connection.client, workload, container)
        if chosen.note:
            note(chosen.note)
        with console.ending_signals():
            return await _shell_at(connection, chosen, asked)
    finally:
        await connection.aclose()


async def _shell_at(connection: Connection, chosen: PodContainer, asked: ShellRequest) -> int:
    tty = console.is_terminal(console.STDIN)
    if not asked.debug:
        result = await _try_shells(connection, chosen, asked.shell, tty=tty)
        if result is not None:
            return exit_code(result, str(chosen))
    image = asked.image or await helper_image(connection.client, SHELL_IMAGE)
    if not asked.debug:
        note(f"{chosen} has no shell; an ephemeral container with {image} is started beside it")
    command = [asked.shell] if asked.shell else attached_shell(os.environ, tty=tty)
    name = await add_shell_container(connection.client, chosen.pod, image, chosen.container, command, tty=tty)
    note(f"ephemeral container {name} in pod {chosen.name}; the pod's description keeps it")
    return await _attach(connection, chosen.namespace, chosen.name, name, tty=tty, wake=not asked.shell)


async def _try_shells(connection: Connection, chosen: PodContainer, wanted: str, *, tty: bool) -> CommandResult | None:
    """Run the first shell that the container has; return its result, None when there is none."""
    options = StreamOptions(chosen.container, stdin=True, tty=tty)
    for command in shell_commands(wanted, os.environ, tty=tty):
        try:
            result = await run_session(
                functools.partial(RemoteCommand.exec, connection, chosen.namespace, chosen.name, command, options),
                stdin=True,
                tty=tty,
            )
        except ApiError as error:
            raise await explain_refusal(error, str(chosen), "exec", connection.client, chosen.namespace) from error
        if not is_missing_command(result) or wanted:
            return result
    return None


async def open_shell_pod(namespace: str | None, asked: ShellRequest, cluster: ChosenCluster) -> int:
    """Open a shell in a new pod; return its exit code. Raises HatchwayError."""
    tty = console.is_terminal(console.STDIN)
    connection = Connection.load(*cluster)
    space = namespace or connection.namespace
    command = [asked.shell] if asked.shell else attached_shell(os.environ, tty=tty)
    try:
        with console.ending_signals():
            image = asked.image or await helper_image(connection.client, SHELL_IMAGE)
            async with running_shell_pod(connection.client, space, image, command, asked.deadline, tty=tty) as pod:
                name = pod["metadata"]["name"]
                note(f"pod {name} in namespace {space}, removed at the end")
                return await _attach(connection, space, name, CONTAINER, tty=tty, wake=not asked.shell)
    finally:
        await connection.aclose()


async def _attach(connection: Connection, namespace: str, pod: str, container: str, *, tty: bool, wake: bool) -> int:
    options = StreamOptions(container, stdin=True, tty=tty)
    chosen = f"pod {pod}, container {container}"
    try:
        result = await run_session(
            lambda: RemoteCommand.attach(connection, namespace, pod, options),
            stdin=True,
            tty=tty,
            first=WAKE if wake else b"",
        )
    except ApiError as error:
        raise await explain_refusal(error, chosen, "attach", connection.client, namespace) from error
    return exit_code(result, chosen) or await exit_code_of(connection.client, namespace, pod, container)
