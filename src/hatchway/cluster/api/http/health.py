"""Answers /healthz, /livez and /readyz: single checks by name, or all together (`apiserver/pkg/server/healthz`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hatchway.cluster.api.operations.requestoptions import QueryParameters
from hatchway.cluster.api.storage.store import Store

# A check returns "" when it passes, otherwise the reason why it fails.
Check = Callable[[], str]


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """A complete answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def _text(status: int, text: str) -> PlainAnswer:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-cache, private"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return PlainAnswer(status, headers, text.encode())


class Health:
    """Answers /healthz, /livez and /readyz.

    A check that exists in Kubernetes has the same name there.

    live: the checks of all three paths.
    ready: the additional checks of /readyz.
    """

    def __init__(self, live: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        self._groups: dict[str, dict[str, Check]] = {
            "healthz": dict(live),
            "livez": dict(live),
            "readyz": {**live, **ready},
        }

    def paths(self) -> list[str]:
        """Return all paths of health checks."""
        return [
            path
            for group, checks in self._groups.items()
            for path in (f"/{group}", *(f"/{group}/{name}" for name in checks))
        ]

    def answer(self, path: str, query: QueryParameters) -> PlainAnswer | None:
        """Return the answer for a path; None for paths that are not health checks."""
        group, _, name = path.strip("/").partition("/")
        checks = self._groups.get(group)
        if checks is None or (name and name not in checks):
            return None
        if name:
            why = checks[name]()
            return _text(500, f"internal server error: {why}\n") if why else _text(200, "ok")
        excluded = set(query.get("exclude", ()))
        lines = []
        failed = []
        for one, check in checks.items():
            if one in excluded:
                excluded.discard(one)
                lines.append(f"[+]{one} excluded: ok")
                continue
            if check():
                failed.append(one)
                lines.append(f"[-]{one} failed: reason withheld")
            else:
                lines.append(f"[+]{one} ok")
        if excluded:
            shown = ",".join(f'"{one}"' for one in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {shown}")
        if failed:
            return _text(500, "\n".join(lines) + f"\n{group} check failed\n")
        if "verbose" in query:
            return _text(200, "\n".join(lines) + f"\n{group} check passed\n")
        return _text(200, "ok")


def store_health(store: Store) -> Health:
    """Return the checks of a server with this store.

    The checks are `ping` (the server answers) and `etcd` (the store's last write has reached the disk).
    """
    return Health({"ping": lambda: "", "etcd": lambda: store.problem}, {"informer-sync": lambda: ""})
