"""The agent's client: an API server that cannot be reached is an `ApiError` like any other, as `kube.api` promises."""

from __future__ import annotations

from typing import Any

import httpx2

from hatchway.errors import service_unavailable
from hatchway.kube.api import Object
from hatchway.kube.http import HttpClient


class NodeClient(HttpClient):
    """`HttpClient` for code that works on while the API server is away."""

    async def _call(self, *args: Any, **more: Any) -> Object:
        try:
            return await super()._call(*args, **more)
        except httpx2.TransportError as error:
            raise service_unavailable(f"the API server cannot be reached: {type(error).__name__}: {error}") from error
