"""Empty values on the command line: shell variables that are not set."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from hatchway.cli import usage
from hatchway.cli.app import app
from hatchway.cli.commandgroup import leaf_commands
from hatchway.cluster.startoptions import check_host_paths
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError

# Parameters for which an empty value is valid: filters that then match everything (filters of refused values: nothing),
# and the path of a URL.
_EMPTY_IS_A_VALUE = {
    "ls SEARCH",
    "image ls NAME",
    "open PATH",
    "url PATH",
    "proxy --accept-paths",
    "proxy --api-prefix",
    "proxy --reject-paths",
    "proxy --accept-hosts",
    "proxy --reject-methods",
}
_COMMANDS = dict(leaf_commands(app, click.Context(app, info_name="hatchway")))


def _label(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name.upper()


def _shown(name: str) -> list[click.Parameter]:
    """Return a command's parameters that take any text, except hidden ones: kubectl's options that Hatchway ignores."""
    params = _COMMANDS[name].command.params
    texts = [param for param in params if isinstance(param.type, click.types.StringParamType)]
    return [param for param in texts if not getattr(param, "hidden", False)]


def _refusal(name: str, param: click.Parameter) -> str:
    """Return the command's error message for an empty value of the parameter; "" if it accepts the value."""
    context = _COMMANDS[name]
    arguments = [one for one in context.command.params if isinstance(one, click.Argument)]
    words = [_label(param), ""] if isinstance(param, click.Option) else ["x"] * arguments.index(param) + [""]
    try:
        context.command.make_context(name, words, parent=context.parent)
    except click.UsageError as error:
        message = usage.explain(error)[0]
        return message if message.startswith(f'{_label(param)}: "" is not ') else ""
    return ""


@pytest.mark.parametrize("name", _COMMANDS)
def test_empty_values_are_refused(name: str) -> None:
    taken = {f"{name} {_label(param)}" for param in _shown(name) if not _refusal(name, param)}
    assert taken == {one for one in _EMPTY_IS_A_VALUE if one.rpartition(" ")[0] == name}


@pytest.mark.parametrize(
    "label",
    ["up --host-path", "up --name", "up --state-dir", "up --kubeconfig", "image load FILE...", "proxy --unix-socket",
     "proxy --www", "cp SOURCE", "cp DESTINATION", "exec TARGET", "forward --file", "ls --token",
     "ls --as", "ls --context"],
)  # fmt: skip
def test_parameters_for_paths_and_names_are_tested(label: str) -> None:
    command, _, parameter = label.rpartition(" ")
    assert parameter in {_label(param) for param in _shown(command)}


def test_an_empty_host_path_is_not_the_current_directory(tmp_path: Path) -> None:
    with pytest.raises(HatchwayError, match='--host-path "": '):
        check_host_paths(StateDir(tmp_path / "c"), [""])
