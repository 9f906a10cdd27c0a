"""A list that is encoded in pieces has the same bytes as a list that is encoded as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.api.http.negotiation import JSON, YAML, AnswerFormat, encode
from hatchway.cluster.api.http.pieces import list_pieces

_HEAD = {"kind": "XList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}}


def _item(index: int, size: int = 1) -> dict[str, Any]:
    text = 'a "b"\n  c: [d]\\ {e}, ü\u2028' * size
    return {
        "zeta": text,
        "metadata": {"name": f"n{index}", "labels": {}},
        "list": [],
        "deep": [[{"a": None, "b": [1, 2.5, True]}]],
    }


@pytest.mark.parametrize("view", [AnswerFormat(JSON), AnswerFormat(JSON, pretty=True), AnswerFormat(YAML)])
@pytest.mark.parametrize("key", ["items", "rows"])
@pytest.mark.parametrize("sizes", [[], [1], [1] * 16, [1] * 50, [1, 5000, 1, 1, 5000, 5000]])
async def test_pieces_add_up_to_the_whole_answer(view: AnswerFormat, key: str, sizes: list[int]) -> None:
    items = [_item(index, size) for index, size in enumerate(sizes)]
    weight = {f"n{index}": 40_000 if size > 1 else 0 for index, size in enumerate(sizes)}

    def show(item: dict[str, Any]) -> dict[str, Any]:
        return {"shown": item}

    pieces = list_pieces(
        _HEAD, key, items, show, lambda item: weight[item["metadata"]["name"]] if any(weight.values()) else 0, view
    )
    found = b"".join([piece async for piece in pieces])
    assert found == encode({**_HEAD, key: [show(item) for item in items]}, view)
