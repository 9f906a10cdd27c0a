from __future__ import annotations

import itertools
from typing import cast

import pytest

from hatchway.remote import resuming
from hatchway.remote.copying import Container
from hatchway.remote.resuming import RemoteFile, list_tree
from hatchway.wire.channels import STDOUT, CommandResult


class Listing:
    """A container whose `find` prints these pieces. The same object stands for the running command."""

    def __init__(self, pieces: itertools.chain[bytes]) -> None:
        self._pieces = pieces
        self.closed = False

    async def open(self, command: list[str]) -> Listing:
        return self

    async def receive(self) -> tuple[int, bytes] | None:
        piece = next(self._pieces, None)
        return None if piece is None else (STDOUT, piece)

    async def result(self) -> CommandResult:
        return CommandResult(0)

    def close(self) -> None:
        self.closed = True


def _container(*pieces: bytes) -> Container:
    return cast(Container, Listing(itertools.chain(pieces)))


async def test_tree_is_read_from_lines_in_any_pieces() -> None:
    container = _container(b"10 1700000000 81a4 data/a\n5 17000", b"00001 81a4 data/b c\n")
    assert await list_tree(container, "/srv", "data") == {
        "data/a": RemoteFile(10, 1_700_000_000, 0o100644),
        "data/b c": RemoteFile(5, 1_700_000_001, 0o100644),
    }


@pytest.mark.parametrize("line", [b"1 1 81a4 other/a", b"1 1 81a4 data", b"1 1 81a4", b"-1 1 81a4 data/a"])
async def test_line_that_find_cannot_print_makes_the_tree_unknown(line: bytes) -> None:
    assert await list_tree(_container(b"1 1 41ed data\n", line + b"\n"), "/srv", "data") is None


async def test_memory_for_names_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_MOST_BYTES", 100_000)
    endless = (b"1 1 81a4 data/%d%s\n" % (number, b"x" * 1000) for number in itertools.count())
    container = Listing(itertools.chain(endless))
    assert await list_tree(cast(Container, container), "/srv", "data") is None
    assert container.closed
