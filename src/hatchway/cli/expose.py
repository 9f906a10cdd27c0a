"""`hatchway expose`: makes a Service for a pod or workload, as `kubectl expose` does, or for a single pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.printing import aligned, note, print_data, say
from hatchway.cli.usage import Choice, GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.kube.api import Object
    from hatchway.kube.connection import Connection

# Seconds to wait for a load balancer's address.
_PATIENCE = 5.0


class _DryRun(Choice):
    """kubectl's values of --dry-run, including the older values `true` and `false`."""

    _OTHERS: ClassVar = {"true": "client", "false": "none"}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word. Raises click.BadParameter."""
        return super().convert(self._OTHERS.get(str(value), value), param, ctx)


@click.command(
    cls=GoFlagsCommand,
    short_help="Make a Service for a pod or workload.",
    epilog=options.examples("""
    hatchway expose deploy/web --port 80 --target-port 8080
    hatchway expose deployment web --type NodePort
    hatchway expose svc/web --name web-public --type LoadBalancer --port 443 --target-port 8443
    hatchway expose pod/web-0 --only --port 8080
    hatchway expose pod/web-0 --undo
    hatchway expose sts/db --dry-run client -o yaml
    """),
)
@click.argument("target", nargs=-1, required=True, shell_complete=options.complete_workload)
@options.namespace
@click.option(
    "--port", default="", metavar="PORT", show_default="those declared", help="The Service's port, or several: 80,443."
)
@click.option(
    "--target-port", default="", metavar="PORT", show_default="the same", help="The pods' port, by number or name."
)
@click.option(
    "--type",
    "kind",
    type=Choice("ClusterIP", "NodePort", "LoadBalancer"),
    show_default="ClusterIP",
    help="The Service's type.",
)
@click.option(
    "--name", "service_name", default="", metavar="NAME", show_default="the target's", help="The Service's name."
)
@click.option("--protocol", type=Choice("TCP", "UDP", "SCTP"), show_default="as declared, or TCP", help="The protocol.")
@click.option(
    "--labels", "-l", default="", metavar="KEY=VALUE,...", show_default="the target's", help="The Service's labels."
)
@click.option(
    "--selector",
    default="",
    metavar="KEY=VALUE,...",
    show_default="those of the target's pods",
    help="The labels of the pods that the Service selects.",
)
@click.option("--cluster-ip", default="", metavar="ADDRESS", help="The ClusterIP; None makes a headless Service.")
@click.option("--external-ip", default="", metavar="ADDRESS", help="One more address at which nodes take connections.")
@click.option(
    "--load-balancer-ip",
    default="",
    metavar="ADDRESS",
    help="The load balancer's address, if its controller allows it.",
)
@click.option("--session-affinity", type=Choice("None", "ClientIP"), help="ClientIP: a client stays with its pod.")
@click.option("--only", is_flag=True, help="Expose only this pod, by a label of its own, and no other pods.")
@click.option("--undo", is_flag=True, help="Delete the Service and label that --only has made for this pod.")
@click.option(
    "--dry-run",
    type=_DryRun("none", "client", "server"),
    default="none",
    show_default=True,
    help="Change nothing; show the object that would be made.",
)
@options.output("text", "name", "yaml", "json")
@clusterflags.cluster_options_without_name
def expose(
    target: tuple[str, ...],
    namespace: str | None,
    kind: str | None,
    service_name: str,
    protocol: str | None,
    session_affinity: str | None,
    only: bool,
    undo: bool,
    dry_run: Any,
    output: str,
    cluster: ChosenCluster,
    **given: str,
) -> None:
    """Make a Service for a target, as `kubectl expose` does, and print how to reach it.

    TARGET: deploy/web, rs/web-6d4, rc/web, sts/db, ds/agent, pod/web-0, svc/web (a second Service for the same pods);
    or two words, as for kubectl: deployment web. Ports, protocols, labels and the selector are those of the target,
    unless options name others.
    """
    if len(target) > 2:
        raise click.UsageError(f"one target at a time: {' '.join(map(printable, target))}")
    if only and undo:
        raise click.BadParameter("choose this one or --only", param_hint="--undo")
    import asyncio

    from hatchway.exposure.generator import ServiceRequest
    from hatchway.kube.connection import Connection
    from hatchway.kube.workload import parse_workload

    request = ServiceRequest(
        name=service_name, type=kind or "", protocol=protocol or "", session_affinity=session_affinity or "", **given
    )
    connection = Connection.load(*cluster)
    workload = parse_workload("/".join(target), namespace, connection.namespace)

    async def run() -> None:
        from hatchway.exposure import exposing, singlepod

        client = connection.client
        try:
            if undo:
                _print_withdrawal(await singlepod.undo(client, workload, dry_run), workload.name, dry_run)
                return
            if only:
                made = await singlepod.expose_single_pod(client, workload, request, dry_run)
            else:
                service = await exposing.make_exposing_service(client, workload, request)
                made = await exposing.create_service(client, workload.namespace, service, dry_run)
            if output in ("json", "yaml"):
                print_data(made, output)
            elif output == "name":
                say(f"service/{printable(made['metadata']['name'])}")
            else:
                await _print_made(connection, made, dry_run)
        finally:
            await connection.aclose()

    asyncio.run(run())


def _print_withdrawal(done: Any, pod: str, dry_run: str) -> None:
    suffix = _suffix(dry_run)
    for name in done.services:
        say(f"service/{printable(name)} deleted{suffix}")
    if done.label:
        say(f"pod/{printable(pod)} unlabeled{suffix}")


def _suffix(dry_run: str) -> str:
    return {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")


async def _print_made(connection: Connection, service: Object, dry_run: str) -> None:
    """Print the Service, its addresses, and notes about reasons why it does not answer."""
    from hatchway.errors import ApiError
    from hatchway.exposure import exposing
    from hatchway.exposure.waysin import ways_in

    metadata, kind = service["metadata"], (service.get("spec") or {}).get("type")
    say(f"service/{printable(metadata['name'])} exposed{_suffix(dry_run)}")
    if dry_run != "none":
        return
    client = connection.client
    if kind == "LoadBalancer":
        service = await exposing.wait_for_address(client, service, _PATIENCE)
    nodes = None
    if kind in ("NodePort", "LoadBalancer"):
        try:
            nodes = await client.list("nodes")
        except ApiError as error:
            note(f"nodes' addresses are not known: {error.message}")
    for line in aligned([["", *way] for way in ways_in(service, nodes)]):
        print(line)
    counted = await exposing.count_selected(client, service)
    if counted == (0, 0):
        note("no pod has the labels of its selector, so it does not answer")
    elif counted is not None and not counted[0]:
        note("none of its pods is ready, so it does not answer yet")
    if kind in ("NodePort", "LoadBalancer") or (service.get("spec") or {}).get("externalIPs"):
        note(f"who can reach it from outside, and is it safe? `hatchway exposure -n {metadata['namespace']}`")
