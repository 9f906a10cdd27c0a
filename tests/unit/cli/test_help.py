"""The texts of --help: how every command and option is described."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from hatchway.cli.app import app
from hatchway.cli.commandgroup import leaf_commands
from hatchway.cli.image import image

_CONTEXTS = {**dict(leaf_commands(app, click.Context(app))), "image": click.Context(image, info_name="image")}
_COMMANDS = list(_CONTEXTS)
# kubectl's global flags, which choose a cluster and a user.
_GLOBAL = {"--kubeconfig", "--context", "--server", "--token", "--as", "--request-timeout", "--v"}


def context_of(name: str) -> click.Context:
    return click.Context(_CONTEXTS[name].command, info_name=name, max_content_width=100, terminal_width=100)


def options_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield each option of a command as the help writes it, with its description."""
    context = context_of(name)
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield record


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_option_says_what_its_value_is(name: str) -> None:
    """The placeholder is a word such as PATH or NAME; click's own "TEXT" says nothing about the value."""
    assert not [written for written, _ in options_of(name) if re.search(r"\b(TEXT|INTEGER|FLOAT)\b", written)]


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_option_is_described_by_a_sentence(name: str) -> None:
    wrong = []
    for written, said in options_of(name):
        sentence = re.split(r" ? \[(?:default|env): ", said)[0]
        if not re.match(r"(?:[A-Z-]|[a-z]+:)", sentence) or not sentence.endswith("."):
            wrong.append((written, said))
    assert not wrong


@pytest.mark.parametrize("name", _COMMANDS)
def test_defaults_in_words_stand_in_parentheses(name: str) -> None:
    """`[default: 8001]` is a value that can be typed, `[default: (the context's)]` is not."""
    defaults = [found for _, said in options_of(name) for found in re.findall(r"\[default: (.*)\]", said)]
    assert not [one for one in defaults if " " in one and not one.startswith("(")]


@pytest.mark.parametrize("name", _COMMANDS)
def test_options_that_choose_a_cluster_have_a_group_of_their_own(name: str) -> None:
    own, title, others = context_of(name).get_help().partition("Cluster and user:\n")
    if not title:
        assert not {option for option in _GLOBAL - {"--kubeconfig"} if f" {option} " in own}
        return
    assert {option for option in _GLOBAL if f"{option} " in others} == _GLOBAL
    assert not {option for option in _GLOBAL if re.search(rf"^  (-\w, )?{option} ", own, re.MULTILINE)}
    assert "--help" in own
