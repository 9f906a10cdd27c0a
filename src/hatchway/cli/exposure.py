"""`hatchway exposure`: lists what can be reached from outside the cluster, and checks if it is safe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.printing import aligned, counted, note, print_data
from hatchway.cli.published import published_addresses
from hatchway.cli.usage import Choice, GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.exposure.findings import Exposure
    from hatchway.exposure.snapshot import Unread
    from hatchway.kube.connection import Connection

# Exit codes in addition to those of every command (1: the command failed, 2: the command line is not valid).
_FOUND, _INCOMPLETE = 3, 4
# The maximum number of findings that the table prints; JSON has all.
_MOST_FINDINGS = 100
_MARKS = {"high": 31, "medium": 33, "low": 36}


@click.command(
    cls=GoFlagsCommand,
    short_help="Show what is reachable from outside, and whether it is safe.",
    epilog=options.examples("""
    hatchway exposure
    hatchway exposure -A
    hatchway exposure -A --fail-on medium -o sarif >exposure.sarif
    hatchway exposure -n shop --probe
    """),
)
@options.namespace
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="All namespaces.")
@click.option(
    "--fail-on",
    type=Choice("high", "medium", "low", "never"),
    default="high",
    show_default=True,
    help="End with exit code 3 when there is a finding of this severity or a worse one.",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Also send a request to each address, directly from this machine: one GET /, without credentials.",
)
@options.output("table", "json", "yaml", "name", "sarif")
@clusterflags.cluster_options
@click.pass_context
def exposure(
    ctx: click.Context,
    namespace: str | None,
    everywhere: bool,
    fail_on: str,
    probe: bool,
    output: str,
    cluster: ChosenCluster,
) -> None:
    """List everything that can be reached from outside the cluster, with problems.

    It reads node ports, load balancers, external IPs, Ingresses, routes of the Gateway API and of Traefik, host ports
    and pods in the node's network. It shows who can connect (the Internet, a private network), if NetworkPolicies
    protect the pods, and which workloads are reached. Each finding has a command line that fixes it; `hatchway
    exposure` itself changes nothing. With --probe it also shows what answers (a page, an API or a login), and the
    certificate. An address that this machine cannot reach does not count as safe.

    Exit codes: 0: no finding as bad as --fail-on; 3: there is such a finding; 4: there is none, but some objects could
    not be read.
    """
    if namespace is not None and everywhere:
        raise click.BadParameter("choose this one or --all-namespaces", param_hint="--namespace")
    import asyncio

    from hatchway.exposure.assessment import assess
    from hatchway.exposure.exposurereport import reaches
    from hatchway.exposure.reading import SnapshotReader
    from hatchway.kube.connection import Connection

    connection = Connection.load(*cluster)
    space = "" if everywhere else namespace or connection.namespace

    async def run() -> tuple[list[Exposure], list[Unread]]:
        try:
            if space:
                await _check_namespace(connection, space)
            snapshot = await SnapshotReader(connection.client, space).read()
            embedded = any(node.embedded for node in snapshot.nodes)
            if embedded:
                snapshot.published = published_addresses(connection.server)
            found = assess(snapshot)
            return (await _probe_all(connection, found, embedded=embedded) if probe else found), snapshot.unread
        finally:
            await connection.aclose()

    found, unread = asyncio.run(run())
    _print(found, unread, output, everywhere=everywhere, cluster=connection.label)
    if fail_on != "never" and reaches(found, fail_on):  # type: ignore[arg-type]
        ctx.exit(_FOUND)
    if unread:
        ctx.exit(_INCOMPLETE)


async def _probe_all(connection: Connection, found: list[Exposure], *, embedded: bool) -> list[Exposure]:
    """Probe the ways in, and return them with the results."""
    from urllib.parse import urlsplit

    from hatchway.addresses import is_loopback
    from hatchway.exposure.assessment import in_order
    from hatchway.exposure.probing import Prober

    # A loopback address of the API server shows that an embedded cluster runs on this machine. For another cluster
    # it may be the end of a tunnel.
    prober = Prober(on_this_machine=embedded and is_loopback(urlsplit(connection.server).hostname or ""))
    answered = await prober.probe(found)
    if prober.left_out:
        note(f"{prober.left_out} more addresses were not probed")
    if prober.on_nodes:
        note(f"{counted(prober.on_nodes, 'workload')} with ports at a loopback address of a node only: not probed")
    return in_order(answered)


async def _check_namespace(connection: Connection, name: str) -> None:
    """Raise HatchwayError when there is no such namespace."""
    from hatchway.errors import HatchwayError
    from hatchway.kube.lookup import ObjectLookup

    similar = await ObjectLookup(connection).similar_namespaces(name)
    if similar is not None:
        meant = " or ".join(f"`hatchway exposure -n {one}`" for one in similar)
        hint = f"did you mean {meant}?" if meant else "`hatchway exposure -A` reads all namespaces"
        raise HatchwayError(f'there is no namespace "{name}" in {connection.label}', hint)


def _print(found: list[Exposure], unread: list[Unread], output: str, *, everywhere: bool, cluster: str) -> None:
    from hatchway.exposure import exposurereport

    if output in ("json", "yaml"):
        print_data(exposurereport.as_data(found, unread, cluster), output)
    elif output == "sarif":
        from hatchway.exposure.sarif import as_sarif

        print_data(as_sarif(found, unread), "json")
    elif output == "name":
        bad = [one for one in found if one.issues and not one.accepted]
        lines = [one.spelled + (f" -n {one.namespace}" if everywhere and one.namespace else "") for one in bad]
        for line in dict.fromkeys(lines):
            print(printable(line))
    else:
        _print_table(found, everywhere=everywhere)
    for one in unread:
        note(str(one))
    if output == "table":
        counts = exposurereport.count(found)
        told = ", ".join(f"{number} {severity}" for severity, number in counts.items() if number)
        ways = counted(len(found), "way")
        whole = "" if not unread else ", in the objects that could be read"
        print(f"{ways} in from outside; findings: {told or 'none'}{whole}", file=sys.stderr)


def _print_table(found: list[Exposure], *, everywhere: bool) -> None:
    """Print the ways in, then each finding with its explanation and the command that fixes it."""
    from hatchway.exposure import exposurereport

    if not found:
        return
    for line in aligned(exposurereport.rows(found, namespaces=everywhere)):
        print(line)
    asked = [answer for way in found for answer in way.answers]
    if asked:
        print("\nAnswers to requests from this machine, without credentials:")
        for answer in dict.fromkeys(map(str, asked)):
            print(printable(f"  {answer}"))
    findings: list[tuple[Any, Any]] = list(exposurereport.findings(found))
    for way, issue in findings[:_MOST_FINDINGS]:
        print()
        where = f"{way.spelled} in {way.namespace}" if everywhere and way.namespace else way.spelled
        reason = f" (on purpose: {way.accepted})" if way.accepted else ""
        print(f"{_marked(issue.severity)}  {printable(f'{where}, {way.way}: {issue.message}{reason}')}")
        print(f"        {printable(issue.mend)}")
    if len(findings) > _MOST_FINDINGS:
        note(f"{len(findings) - _MOST_FINDINGS} more findings; -o json has all")


def _marked(severity: str) -> str:
    """Return a severity padded to six characters, coloured on a terminal."""
    import os

    text = severity.ljust(6)
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or severity not in _MARKS:
        return text
    return f"\x1b[{_MARKS[severity]}m{text}\x1b[0m"
