"""Looks up a target of the command line in its cluster: checks that it exists, and chooses one of its ports.

When the target does not exist, the error lists similar targets that do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hatchway.cli.printing import note
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable
from hatchway.target import WORDS, Target, TargetError, format_argument, format_arguments

if TYPE_CHECKING:
    from hatchway.kube.api import Object
    from hatchway.kube.catalog import CatalogEntry
    from hatchway.kube.lookup import ObjectLookup
    from hatchway.kube.portlinks import PortLink

# The maximum number of names in one line, and the maximum number of characters of a name.
_NAMES, _WORD = 8, 512
# Seconds to wait for the cluster. The target's URL is printed in any case.
_PATIENCE = 5.0


class Missing(HatchwayError):
    """The target, or its port, does not exist; the hint lists targets or ports that exist."""


class NoHttp(HatchwayError):
    """None of the target's ports is known to speak HTTP, and the user chose none.

    ports: the target with each of its TCP ports, which may speak HTTP nevertheless.
    """

    def __init__(self, target: Target, ports: list[Target]) -> None:
        lines = " or ".join(f"`hatchway url {format_arguments(port)}`" for port in ports)
        super().__init__(
            f"{target} has no port that is known to speak HTTP, and no port was given",
            f"if one of them does: {lines}" if lines else "none of its ports speaks TCP",
        )


@dataclass(frozen=True, slots=True)
class FoundTarget:
    """A target that was found in its cluster.

    target: the target as it was given; with the chosen port, if the caller has requested a port.
    links: the target's ports that may speak HTTP, the chosen one first; empty if a port was given or there is only one.
    """

    target: Target
    links: tuple[PortLink, ...] = ()


def find_target(target: Target, cluster: ChosenCluster, *, port: bool) -> FoundTarget:
    """Look a target up. If the cluster gives no answer, print a note and return the target unchanged.

    Args:
        port: True to fill in the port and the scheme that the door would choose. URLs at the API server need this: a
            URL without a port means the service's unnamed port.

    Raises:
        Missing: the target, or its port, does not exist.
        NoHttp: none of the target's ports speaks HTTP.
    """
    import asyncio

    from hatchway.kube.connection import Connection
    from hatchway.kube.lookup import ObjectLookup
    from hatchway.kube.portlinks import links
    from hatchway.kube.resolve import resolve

    async def ask() -> FoundTarget:
        connection = Connection.load(*cluster)
        try:
            async with asyncio.timeout(_PATIENCE):
                lookup = ObjectLookup(connection)
                known = await lookup.get(target.kind, target.namespace, target.name)
                if not known.readable:
                    raise HatchwayError(f"you may not read {target}")
                await check(target, known.object, lookup, connection.label)
                assert known.object is not None
                declared = links(target.kind, known.object)
                found = () if target.port or target.scheme else _choice(declared)
                if not port:
                    return FoundTarget(target, found)
                if declared and not target.scheme and all(link.http is False for link in declared):
                    raise NoHttp(target, [link.target for link in declared if link.port.protocol == "TCP"])
                resolved = await resolve(target, lookup)
        except TimeoutError as error:
            raise HatchwayError(f"{connection.label} does not answer in {_PATIENCE:g} s") from error
        finally:
            await connection.aclose()
        return FoundTarget(resolved.target, found)

    try:
        return asyncio.run(ask())
    except (Missing, NoHttp):
        raise
    except HatchwayError as error:
        what = "which port to use" if port else f"if {target} exists"
        note(f"cannot find out {what}: {error.message}")
        return FoundTarget(target)


def read_state(target: Target, cluster: ChosenCluster) -> CatalogEntry | None:
    """Return a target's entry as `hatchway ls` shows it; None when it does not exist or the cluster gives no answer."""
    import asyncio

    from hatchway.kube.catalog import read_entry
    from hatchway.kube.connection import Connection
    from hatchway.kube.lookup import ObjectLookup

    async def read() -> CatalogEntry | None:
        connection = Connection.load(*cluster)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await read_entry(target, ObjectLookup(connection))
        finally:
            await connection.aclose()

    try:
        return asyncio.run(read())
    except (HatchwayError, TimeoutError):
        return None


def _choice(found: list[PortLink]) -> tuple[PortLink, ...]:
    """Return the ports that may speak HTTP; nothing if there is only one. The first is the port that is chosen.

    The target of the chosen port names no port: a target without a port leads to the chosen port.
    """
    able = [link for link in found if link.http is not False]
    return tuple(sorted(able, key=lambda link: bool(link.target.port))) if len(able) > 1 else ()


def describe_choice(links: tuple[PortLink, ...]) -> str:
    """Return a sentence that names the chosen port, the reason, and how to choose another port."""
    meant, *others = links
    try:
        choices = _listed([f"{_described(link)} as `{format_argument(link.target)}`" for link in others], "or")
    except TargetError:
        choices = _listed([_described(link) for link in others], "or")
    why = "" if meant.http is None else ", which most likely speaks HTTP"
    return f"this is port {_described(meant)}{why}; there is also {choices}"


def _described(link: PortLink) -> str:
    port = link.port
    return f"{port.name} ({port.number})" if port.name else str(port.number)


async def check(target: Target, found: Object | None, lookup: ObjectLookup, cluster: str) -> None:
    """Raise Missing when `found`, the target's object, is None or lacks the target's port.

    cluster: the cluster's name in the error's text.
    """
    from hatchway.kube.ports import ports

    if found is None:
        raise Missing(f"there is no {target} in {cluster}", await _instead(target, lookup))
    declared = ports(found)
    known = {name for port in declared for name in (port.name, str(port.number)) if name}
    # A pod's container may listen on a port that it does not declare.
    if not target.port or target.port in known or target.kind == "nodes":
        return
    if target.kind != "services" and target.port.isdigit():
        return
    whole = replace(target, port="", scheme="")
    if not declared:
        raise Missing(f"{whole} declares no ports", "" if target.kind == "services" else "give the port's number")
    named = [f"{port.name} ({port.number})" if port.name else str(port.number) for port in declared]
    raise Missing(f'{whole} has no port "{target.port}"', f"it has {_listed(named)}")


async def _instead(target: Target, lookup: ObjectLookup) -> str:
    from hatchway.kube.lookup import similar_names

    names = [one["metadata"]["name"] for one in await lookup.list_readable(target.kind, target.namespace)]
    close = similar_names(target.name, names, 3)
    if close:
        return _did_you_mean([replace(target, name=name) for name in close])
    if target.namespace:
        elsewhere = [
            one["metadata"]["namespace"]
            for one in await lookup.list_readable(target.kind, "")
            if one["metadata"]["name"] == target.name
        ]
        if elsewhere:
            return _did_you_mean([replace(target, namespace=namespace) for namespace in elsewhere[:3]])
        if not names and (spaces := await lookup.similar_namespaces(target.namespace)) is not None:
            similar = f"; did you mean {_listed(spaces, 'or')}?" if spaces else ""
            return f'there is no namespace "{target.namespace}"{similar}'
    where = f' in namespace "{target.namespace}"' if target.namespace else ""
    if names:
        return f"there {'is' if len(names) == 1 else 'are'} {_listed(names)}{where}"
    command = f"`kubectl get {target.kind} -A`" if target.is_workload else "`hatchway ls -A`"
    return f"there is no {WORDS[target.kind]} at all{where}, or you may not list them; {command} looks everywhere"


def _did_you_mean(targets: list[Target]) -> str:
    return f"did you mean {_listed([f'`{format_arguments(one)}`' for one in targets], 'or')}?"


def _listed(words: list[str], last: str = "and") -> str:
    words = [printable(word, _WORD) for word in words]
    if len(words) > _NAMES:
        words = [*words[: _NAMES - 1], f"{len(words) - _NAMES + 1} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
