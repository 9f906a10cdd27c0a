"""Syntax trees of source text, on every supported Python."""

from __future__ import annotations

import ast
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Disable garbage collection during a block.

    CPython 3.11 raises SystemError if a finalizer makes a syntax tree while another one is being made. Finalizers that
    format a traceback do this (https://github.com/python/cpython/issues/106905).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def syntax_tree(source: str, feature_version: tuple[int, int] | None = None) -> ast.Module:
    """Return the syntax tree of `source`; tests use this instead of `ast.parse`.

    feature_version: the oldest Python whose syntax is accepted. Raises SyntaxError.
    """
    with without_collection():
        return ast.parse(source, feature_version=feature_version)
