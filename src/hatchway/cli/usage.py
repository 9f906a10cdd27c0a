"""Describes usage errors in one line and a hint, and defines the types of options' values."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import click
from click.core import ParameterSource

# The least similarity of a suggestion, from 0 to 1 (difflib's default).
_SIMILAR: Final = 0.6


def explain(error: click.UsageError) -> tuple[str, str]:
    """Return (message, hint) for a command line that click refused."""
    command = error.ctx.command_path if error.ctx is not None else "hatchway"
    hint = f"`{command} --help` shows its arguments and options"
    match error:
        case click.NoSuchOption():
            similar = sorted(one for one in error.possibilities or () if _is_similar(one, error.option_name))
            if similar:
                hint = f"did you mean {' or '.join(similar)}? {hint}"
            return f"`{command}` has no option {error.option_name}", hint
        case click.MissingParameter():
            return f"`{command}` needs {_name(error)}", hint
        case click.BadOptionUsage() if "requires" in error.message:
            return f"{error.option_name} needs a value", hint
        case click.BadParameter():
            name = _name(error)
            return f"{name}: {error.message}" if name else error.message, hint
    return error.format_message().rstrip("."), hint


def _is_similar(one: str, other: str) -> bool:
    """Return True for similar names of options. Their dashes do not count, unlike in click's own comparison."""
    from difflib import SequenceMatcher

    return SequenceMatcher(None, one.strip("-"), other.strip("-")).ratio() >= _SIMILAR


def _name(error: click.BadParameter) -> str:
    """Return the parameter's name for messages: the long option, or the argument's name in capitals."""
    if isinstance(error.param_hint, str):
        return error.param_hint
    parameter = error.param
    if parameter is None:
        return ""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name.upper()


class Text(click.types.StringParamType):
    """Any text; an empty value on the command line is refused unless it has a meaning.

    An empty value is nearly always a shell variable that is not set. As a path it would be the current directory, and
    as a name or a credential it would select something that the caller did not name.

    empty: True where an empty value has a meaning of its own, such as a filter that matches everything.
    """

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text. Raises click.BadParameter."""
        text = super().convert(value, param, ctx)
        if not text and not self.empty and _is_given(param, ctx):
            instead = "write a value, or leave the option out" if isinstance(param, click.Option) else "write a value"
            self.fail(f'"" is not a value (is a shell variable not set?); {instead}', param, ctx)
        return text


def _is_given(param: click.Parameter | None, ctx: click.Context | None) -> bool:
    """Return True for a value on the command line; False for a default."""
    if param is None or ctx is None or param.name is None:
        return True
    return ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE


def refuse_empty_values(command: click.Command) -> None:
    """Give the type `Text` to the command's parameters that take any text and have no type of their own."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = Text()


class Number(click.ParamType):  # type: ignore[type-arg]
    """A whole number in ASCII digits, from `least` to `most`.

    least, most: both included.
    what: the word for the number in the message, such as `port`.
    """

    name = "number"

    def __init__(self, least: int, most: int, what: str = "number") -> None:
        self._least = least
        self._most = most
        self._what = what

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises click.BadParameter."""
        if isinstance(value, int):
            return value
        text = str(value)
        if not (text.isascii() and text.removeprefix("-").isdigit()):
            self.fail(f'"{text}" is not a {self._what}; write a number from {self._least} to {self._most}', param, ctx)
        # Longer numbers are out of range in any case, and Python refuses to convert very long ones.
        if len(text) > 18 or not self._least <= int(text) <= self._most:
            self.fail(f"{text} is out of range; choose from {self._least} to {self._most}", param, ctx)
        return int(text)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the placeholder for the value in the help."""
        return "N"


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A number of seconds; not negative, with fractions."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises click.BadParameter."""
        if isinstance(value, float):
            return value
        text = str(value)
        whole, _, fraction = text.partition(".")
        if not (text.isascii() and (whole + fraction).isdigit() and len(text) <= 12):
            self.fail(f'"{text}" is not a number of seconds; write it like 30 or 2.5', param, ctx)
        return float(text)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the placeholder for the value in the help."""
        return "SECONDS"


class Choice(click.ParamType):  # type: ignore[type-arg]
    """One of several words."""

    name = "choice"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word. Raises click.BadParameter."""
        text = str(value)
        if text not in self.words:
            self.fail(f'"{text}" is not known; choose {", ".join(self.words[:-1])} or {self.words[-1]}', param, ctx)
        return text

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the placeholder for the value in the help."""
        return "|".join(self.words)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the words that begin with `incomplete`."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


class ClusterOption(click.Option):
    """An option that chooses a cluster or a user. The help lists these options separately."""


def own_options_first(parameters: list[click.Parameter]) -> list[click.Parameter]:
    """Return the parameters with those that choose a cluster at the end."""
    return sorted(parameters, key=lambda parameter: isinstance(parameter, ClusterOption))


class GoFlagsCommand(click.Command):
    """A command that also accepts option values in the form of Go programs: `--switch=false`, `-v=6`."""

    _VALUES: ClassVar = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. An option `--switch=false` is treated as not given."""
        switches = {
            name for param in self.params if isinstance(param, click.Option) and param.is_flag for name in param.opts
        }
        short = {name for param in self.params for name in param.opts if len(name) == 2} - switches
        kept: list[str] = []
        for index, argument in enumerate(args):
            if argument == "--":
                kept += args[index:]
                break
            name, equals, value = argument.partition("=")
            if equals and name in short:
                kept += [name, value]
            elif not equals or name not in switches:
                kept.append(argument)
            elif value.lower() not in self._VALUES:
                raise click.BadParameter(f'"{value}" is neither true nor false', ctx, param_hint=name)
            elif self._VALUES[value.lower()]:
                kept.append(name)
        return super().parse_args(ctx, kept)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those that choose a cluster."""
        parts: dict[str, list[tuple[str, str]]] = {"Options": [], "Cluster and user": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                parts["Cluster and user" if isinstance(parameter, ClusterOption) else "Options"].append(record)
        for title, records in parts.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
