from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hatchway.images.contents import Image
from hatchway.images.pulling import registryauth, registryhttp
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.pull import Progress, pull
from hatchway.images.pulling.registries import Registries
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore


class Puller:
    """Pulls images into one store, and ignores this machine's environment. seen: the progress of the last pull."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store
        self.seen: list[Progress] = []

    async def __call__(
        self,
        name: str,
        *credentials: Credential,
        registries: Registries | None = None,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> Image:
        self.seen = []
        found: Sequence[Credential] = credentials
        return await pull(
            self.store,
            parse(name),
            credentials=found,
            registries=registries or Registries(),
            progress=self.seen.append,
            environment=environment or {},
            **options,
        )

    def states(self, digest: str) -> list[str]:
        """Return the states of a blob in their order, without repetitions."""
        return list(dict.fromkeys(one.state for one in self.seen if one.digest == digest))

    def leftovers(self) -> list[str]:
        """Return the hexadecimal parts of the digests of unfinished downloads."""
        partial = self.store.path / "partial"
        return sorted(path.name.partition("-")[0] for path in partial.iterdir()) if partial.is_dir() else []

    def downloaded(self, digest: str) -> int:
        """Return the number of bytes of an unfinished download."""
        parts = (self.store.path / "partial").glob(f"{digest.removeprefix('sha256:')}-*")
        return sum(path.stat().st_size for path in parts)


@pytest.fixture
def puller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Puller:
    monkeypatch.setattr(registryhttp, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(registryauth, "_tokens", registryauth.TokenCache())
    return Puller(ImageStore(tmp_path / "store"))
