"""A node runs a pod if it has the handler of the pod's RuntimeClass. Otherwise the pod gets containerd's message."""

from __future__ import annotations

import pytest

from hatchway.cluster.node.runtimehandlers import check_runtime_class
from hatchway.kube.wellknown import RUNTIME_CLASSES
from tests.unit.fake_client import FakeClient


async def test_handlers() -> None:
    client = FakeClient()
    for name, handler in (("own", "hatchway"), ("kata", "kata-qemu")):
        await client.create(RUNTIME_CLASSES, {"metadata": {"name": name}, "handler": handler})
    await check_runtime_class(client, {"spec": {}})
    await check_runtime_class(client, {"spec": {"runtimeClassName": "own"}})
    with pytest.raises(OSError, match=r'no runtime for "kata-qemu" is configured$'):
        await check_runtime_class(client, {"spec": {"runtimeClassName": "kata"}})
    with pytest.raises(OSError, match=r'^runtimeclass.node.k8s.io "gone" not found$'):
        await check_runtime_class(client, {"spec": {"runtimeClassName": "gone"}})
