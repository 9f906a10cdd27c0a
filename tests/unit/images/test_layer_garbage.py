"""Unpacked layers are deleted when no image uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hatchway import usermaps
from hatchway.cli import imageprune
from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.reference import parse
from hatchway.images.store import formerlayers
from hatchway.images.store.formerlayers import remove_former_layers
from hatchway.images.store.store import ImageStore
from hatchway.usermaps import MapError, UserMap
from tests.images.making import make_image


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def layers_of(store: ImageStore) -> int:
    return len(list((store.path / "layers/one").iterdir()))


async def test_a_layer_is_deleted_with_the_last_image_that_needs_it(store: ImageStore) -> None:
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


async def test_layers_for_an_earlier_user_map_are_deleted(store: ImageStore) -> None:
    image = make_image(store, "one:1", {"base": "b"}, {"a": "1"})
    running, former = LayerStore(store.path, "one"), LayerStore(store.path, "real")
    await running.unpack(image)
    assert layers_of(store) == 2
    # While the first cluster runs, a cluster with another user map unpacks the layer again.
    await former.unpack(image)
    await former.close()
    assert layers_of(store) == 2 and running.directories(image) is not None
    assert remove_former_layers(store.path, "real") == (0, ()), "a cluster uses these layers"
    await running.close()
    # They are removed when the next image is unpacked for the other user map.
    other = make_image(store, "two:1", {"base": "c"})
    again = LayerStore(store.path, "real")
    await again.unpack(other)
    await again.close()
    assert layers_of(store) == 0 and again.directories(image) is not None
    await again.close()
    assert remove_former_layers(store.path, "mapped") == (3, ())
    assert remove_former_layers(store.path, "mapped") == (0, ())


async def test_prune_removes_layers_for_an_earlier_user_map(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(store, "one:1", {"base": "b"})
    layers = LayerStore(store.path, "one")
    await layers.unpack(image)
    await layers.close()
    monkeypatch.setattr(imageprune, "open_store", lambda _: store)
    monkeypatch.setattr(formerlayers, "choose", lambda: replace(usermaps.one(), way="mapped"))
    prune = imageprune.prune.callback
    assert prune is not None
    prune(every=False, yes=False, state_dir=None)
    assert "Deleted: 1 unpacked layer" in capsys.readouterr().out
    assert layers_of(store) == 0 and store.find(parse("one:1")) is not None
    await layers.unpack(image)
    await layers.close()

    def unusable() -> UserMap:
        raise MapError("no range")

    monkeypatch.setattr(formerlayers, "choose", unusable)
    prune(every=False, yes=False, state_dir=None)
    assert layers_of(store) == 1, "these layers are for the present user map"
