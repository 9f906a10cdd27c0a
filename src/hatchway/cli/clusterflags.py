"""Options that choose a cluster and a user: kubectl's global flags, for every command that uses a cluster."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hatchway.cli import options
from hatchway.cli.clusterchoice import choose_cluster
from hatchway.cli.usage import ClusterOption, Number, Text

_Function = TypeVar("_Function", bound=Callable[..., Any])

# klog's levels as kubectl uses them: 4 logs decisions, 6 logs requests.
_INFO_LEVEL, _DEBUG_LEVEL = 4, 6


_option = functools.partial(click.option, cls=ClusterOption)


def _effective(*, named: bool) -> list[Callable[[Any], Any]]:
    """Return the options that have an effect, in the order of the help. named: True to include --name."""
    name = _option(
        "--name",
        metavar="NAME",
        shell_complete=options.complete_name,
        help="The embedded cluster of this name; instead of --context. "
        "[env: HATCHWAY_NAME, unless another option chooses a cluster]",
    )
    return [
        options.kubeconfig(ClusterOption),
        _option(
            "--context",
            metavar="CONTEXT",
            show_default="the current one",
            shell_complete=options.complete_context,
            help="The kubeconfig's context.",
        ),
        *([name] if named else []),
        _option("--cluster", default="", metavar="NAME", help="The kubeconfig's cluster, instead of the context's."),
        _option("--user", default="", metavar="NAME", help="The kubeconfig's user, instead of the context's."),
        _option("--server", "-s", default="", metavar="URL", help="The API server, instead of the kubeconfig's."),
        _option(
            "--token",
            default="",
            metavar="TOKEN",
            help="A bearer token, instead of the user's credentials. Others see it in `ps`.",
        ),
        _option("--username", default="", metavar="NAME", help="A user name for basic authentication."),
        _option(
            "--password", default="", metavar="PASSWORD", help="The password of --username. Others see it in `ps`."
        ),
        _option("--client-certificate", default="", metavar="FILE", help="A client certificate, in PEM."),
        _option("--client-key", default="", metavar="FILE", help="The key of --client-certificate."),
        _option("--certificate-authority", default="", metavar="FILE", help="The CA of the server's certificate."),
        _option("--insecure-skip-tls-verify", is_flag=True, default=None, help="Trust any server. Dangerous."),
        _option(
            "--tls-server-name", default="", metavar="NAME", help="The name that the server's certificate must have."
        ),
        _option("--proxy-url", default="", metavar="URL", help="The proxy to the API server."),
        _option("--as", "impersonate", default="", metavar="USER", help="Act as this user."),
        _option(
            "--as-group", "groups", multiple=True, metavar="GROUP", help="Act in this group, too; may be repeated."
        ),
        _option("--as-uid", default="", metavar="UID", help="Act with this UID."),
        _option(
            "--as-user-extra", "extra", multiple=True, metavar="KEY=VALUE", help="Act with this extra; may be repeated."
        ),
        _option("--request-timeout", default="0", metavar="TIME", help="How long one request may take, like 5s or 2m."),
        _option(
            "-v",
            "--v",
            "verbosity",
            type=Number(0, 100, "level"),
            default=0,
            help="Write a log to standard error: 4 logs decisions, 6 also requests.",
        ),
    ]


# The type of options without an effect: an empty value is accepted, too.
_ANY = Text(empty=True)
# kubectl's options without an effect here. They are accepted, so that command lines with them work.
_WITHOUT_EFFECT = (
    click.option("--cache-dir", type=_ANY, hidden=True, expose_value=False),
    click.option("--disable-compression", is_flag=True, hidden=True, expose_value=False),
    click.option("--kuberc", type=_ANY, hidden=True, expose_value=False),
    click.option("--log-flush-frequency", type=_ANY, hidden=True, expose_value=False),
    click.option("--match-server-version", is_flag=True, hidden=True, expose_value=False),
    click.option("--profile", type=_ANY, hidden=True, expose_value=False),
    click.option("--profile-output", type=_ANY, hidden=True, expose_value=False),
    click.option("--vmodule", type=_ANY, hidden=True, expose_value=False),
    click.option("--warnings-as-errors", is_flag=True, hidden=True, expose_value=False),
)
# Accepts and ignores --namespace, for commands without a namespace.
unused_namespace = click.option("--namespace", "-n", type=_ANY, hidden=True, expose_value=False)

_NAMES = (
    "kubeconfig", "context", "name", "cluster", "user", "server", "token", "username", "password", "client_certificate",
    "client_key", "certificate_authority", "insecure_skip_tls_verify", "tls_server_name", "proxy_url", "impersonate",
    "groups", "as_uid", "extra", "request_timeout", "verbosity",
)  # fmt: skip


def cluster_options(function: _Function) -> _Function:
    """Add the options. Their result is the function's argument `cluster`, a ChosenCluster."""
    return _with_options(function, named=True)


def cluster_options_without_name(function: _Function) -> _Function:
    """Add the options except `--name`, for a command whose `--name` has kubectl's meaning: the name of a new object."""
    return _with_options(function, named=False)


def _with_options(function: _Function, *, named: bool) -> _Function:
    @functools.wraps(function)
    def command(*arguments: Any, **given: Any) -> Any:
        found = {name: given.pop(name, None) for name in _NAMES}
        _start_log(found["verbosity"])
        return function(*arguments, cluster=choose_cluster(found), **given)

    wrapped: Any = command
    for option in (*reversed(_WITHOUT_EFFECT), *reversed(_effective(named=named))):
        wrapped = option(wrapped)
    found: _Function = wrapped
    return found


def _start_log(verbosity: int) -> None:
    """Write Hatchway's log to standard error, at the level of detail that `-v` chooses. It contains no credentials."""
    if verbosity < _INFO_LEVEL:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    log = logging.getLogger("hatchway")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbosity >= _DEBUG_LEVEL else logging.INFO)
