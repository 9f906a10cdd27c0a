"""The image of the pods that Hatchway's commands create."""

from __future__ import annotations

import pytest

from hatchway.errors import ApiError
from hatchway.kube.helperimage import helper_image


class Client:
    def __init__(self, status: int, body: bytes) -> None:
        self.answer = status, body

    async def exchange(self, method: str, path: str) -> tuple[int, bytes]:
        assert (method, path) == ("GET", "/version")
        if not self.answer[0]:
            raise ApiError(503, "ServiceUnavailable", "away")
        return self.answer


@pytest.mark.parametrize(
    ("status", "body", "image"),
    [
        (200, b'{"gitVersion": "v1.37.0+hatchway.0.1"}', "hatchway/host"),
        (200, b'{"gitVersion": "v1.37.0+k3s1"}', "usual"),
        (200, b"{}", "usual"),
        (200, b"[1]", "usual"),
        (200, b'{"gitVersion": 1}', "usual"),
        (200, b"<html>", "usual"),
        (403, b'{"gitVersion": "v1.37.0+hatchway.0.1"}', "usual"),
        (0, b"", "usual"),
    ],
)
async def test_only_an_embedded_cluster_can_run_this_machines_programs(status: int, body: bytes, image: str) -> None:
    assert await helper_image(Client(status, body), "usual") == image
