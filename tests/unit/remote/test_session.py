from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.remote import console, session


@pytest.mark.parametrize("can_end_input", [True, False])
async def test_a_server_that_cannot_end_input_is_reported(monkeypatch: pytest.MonkeyPatch, can_end_input: bool) -> None:
    pieces = [b"all of it", b""]
    done: list[Any] = []

    async def read() -> bytes:
        return pieces.pop(0)

    async def show(descriptor: int, data: bytes) -> None:
        done.append((descriptor, data))

    async def write(data: bytes) -> None:
        done.append(data)

    monkeypatch.setattr(console, "read_input", read)
    monkeypatch.setattr(console, "write_output", show)
    command = SimpleNamespace(can_end_input=can_end_input, write=write, end_input=lambda: done.append("end"))
    await session._feed(cast(Any, command))
    assert done[0] == b"all of it"
    if can_end_input:
        assert done[1:] == ["end"]
    else:
        ((descriptor, text),) = done[1:]
        assert descriptor == console.STDERR and b"cannot end a command's input" in text
