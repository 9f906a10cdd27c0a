"""Options for registries (mirrors, TLS), for every command that pulls images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def registry_options(function: _Function) -> _Function:
    """Add `--registries` and similar options, which become the argument `registries`: images.registries.Registries."""

    @functools.wraps(function)
    def parsed(
        *args: Any,
        registries: str | None,
        insecure_registry: tuple[str, ...],
        registry_mirror: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        from hatchway.images.pulling.registries import Registries

        found = Registries.load(registries, insecure=insecure_registry, mirrors=registry_mirror)
        return function(*args, registries=found, **rest)

    for option in (
        click.option(
            "--registry-mirror",
            multiple=True,
            metavar="REGISTRY=URL",
            help="Ask this server first for the registry's images. May be given several times.",
        ),
        click.option(
            "--insecure-registry",
            multiple=True,
            metavar="HOST[:PORT]",
            help="A registry without TLS, or with a certificate that cannot be verified. May be given several times.",
        ),
        click.option(
            "--registries",
            metavar="FILE",
            show_default="$HATCHWAY_REGISTRIES or ~/.config/hatchway/registries.toml",
            help="Mirrors, certificates and other settings of registries.",
        ),
    ):
        parsed = option(parsed)
    return cast(_Function, parsed)
