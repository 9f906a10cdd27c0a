"""Unpacked layers are deleted when no image uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore
from tests.images.making import make_image


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def layers_of(store: ImageStore) -> int:
    return len(list((store.path / "layers/one").iterdir()))


async def test_a_layer_goes_with_the_last_image_that_needs_it(store: ImageStore) -> None:
    one = make_image(store, "one:1", {"base": "b"}, {"a": "1"})
    two = make_image(store, "two:1", {"base": "b"}, {"a": "2"})
    layers = LayerStore(store.path, "one")
    for image in (one, two):
        await layers.unpack(image)
    await layers.close()
    assert layers_of(store) == 3
    with store.use(one, "pod default/a"):
        store.remove(one)
        assert layers.directories(one) is not None
    garbage = store.collect_garbage()
    assert garbage.layers == 1 and garbage.problems == ()
    assert layers.directories(one) is None and layers.directories(two) is not None
    assert store.prune(every=True).layers == 2
    assert layers_of(store) == 0 and store.find(parse("two:1")) is None
