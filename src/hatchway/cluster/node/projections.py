"""Makes the contents of configMap, secret, downwardAPI and projected volumes."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.node import clock, downward
from hatchway.cluster.node.atomic import Content, check_path
from hatchway.cluster.node.env import Get
from hatchway.cluster.node.volumeownership import VolumeOwnership
from hatchway.kube.api import Client, Object

_TOKEN_MODE = 0o600
# A token is renewed after this part of its lifetime, and after a day at the latest (pkg/kubelet/token).
_RENEW_AT = 0.8
_RENEW_AFTER = 24 * 3600.0
_DEFAULT_MODE = 0o644


class ProjectionError(Exception):
    """A source is missing or not valid. The message becomes the text of a FailedMount event."""


@dataclass(slots=True)
class _BoundToken:
    text: str
    renewal_time: float


@dataclass(frozen=True, slots=True)
class PodFacts:
    """Values for the downward API that are not in the pod. host_ip and pod_ip are "" until they are known."""

    host_ip: str
    pod_ip: str
    allocatable: Mapping[str, str]


class Projector:
    """Renders the volumes of one pod. Service-account tokens are kept until they must be renewed."""

    def __init__(self, client: Client, get: Get) -> None:
        self._client = client
        self._get = get
        self._tokens: dict[tuple[str, str, int], _BoundToken] = {}

    @property
    def renewal_time(self) -> float | None:
        """Return the time (time.time()) when the first token must be renewed; None when there are no tokens."""
        return min((token.renewal_time for token in self._tokens.values()), default=None)

    async def render(
        self, pod: Object, volume: Object, facts: PodFacts, owner: VolumeOwnership | None = None
    ) -> dict[str, Content]:
        """Return the files of a volume, by path. Raises ProjectionError, ApiError.

        owner: the owners that the pod asks for, which decide who may read tokens.
        """
        owner = owner or VolumeOwnership()
        for kind in ("configMap", "secret", "downwardAPI"):
            if kind in volume:
                source = volume[kind] or {}
                return await self._source(pod, kind, source, _mode(source.get("defaultMode")), facts, owner)
        projected = volume["projected"] or {}
        mode = _mode(projected.get("defaultMode"))
        files: dict[str, Content] = {}
        for source in projected.get("sources") or ():
            for kind, detail in source.items():
                files |= await self._source(pod, kind, detail or {}, mode, facts, owner)
        return files

    async def _source(
        self, pod: Object, kind: str, source: Mapping[str, Any], mode: int, facts: PodFacts, owner: VolumeOwnership
    ) -> dict[str, Content]:
        namespace = pod["metadata"].get("namespace", "")
        if kind in ("configMap", "secret"):
            # A secret volume has `secretName`, a projected source has `name`.
            name = source.get("secretName") or source.get("name", "")
            optional = bool(source.get("optional"))
            obj = await self._get(f"{kind.lower()}s", namespace, name)
            if obj is None:
                if optional:
                    return {}
                raise ProjectionError(f'{kind.lower()} "{name}" not found')
            return _pick(_data(kind, obj), source.get("items") or (), mode, optional)
        if kind == "downwardAPI":
            return _downward(pod, source.get("items") or (), mode, facts)
        if kind == "serviceAccountToken":
            path = source.get("path", "token")
            check_path(path)
            token = await self._token(pod, source.get("audience") or "", source.get("expirationSeconds") or 3600)
            # As in the kubelet (projected.go): a token that belongs to a user or a group has the mode 0600, to which
            # the group's right to read is added (0640). Without an owner, any user may read the token.
            is_owned = owner.user is not None or owner.group is not None
            return {path: Content(token.encode(), _TOKEN_MODE if is_owned else mode, owner.user)}
        raise ProjectionError(f"projected volume source {kind} is not supported by Hatchway")

    async def _token(self, pod: Object, audience: str, seconds: int) -> str:
        account = pod["spec"].get("serviceAccountName") or "default"
        key = account, audience, seconds
        now = time.time()
        known = self._tokens.get(key)
        if known is not None and now < known.renewal_time:
            return known.text
        metadata = pod["metadata"]
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }
        answer = await self._client.create(
            "serviceaccounts", request, metadata.get("namespace"), subresource="token", name=account
        )
        status = answer["status"]
        life = clock.parse(status["expirationTimestamp"]).timestamp() - now
        self._tokens[key] = _BoundToken(status["token"], now + min(life * _RENEW_AT, _RENEW_AFTER))
        return str(status["token"])


def _data(kind: str, obj: Object) -> dict[str, bytes]:
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    found = {key: value.encode("utf-8", "surrogatepass") for key, value in (obj.get("data") or {}).items()}
    return found | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


def _pick(data: dict[str, bytes], items: Sequence[Mapping[str, Any]], mode: int, optional: bool) -> dict[str, Content]:
    """Return the files for all keys, or only for the keys in `items`, at the items' paths (MakePayload)."""
    if not items:
        return {key: Content(value, mode) for key, value in data.items()}
    files: dict[str, Content] = {}
    for item in items:
        key, path = item.get("key", ""), item.get("path", "")
        if key not in data:
            if optional:
                continue
            raise ProjectionError(f"references non-existent config key: {key}")
        _check(path)
        files[path] = Content(data[key], _mode(item.get("mode"), mode))
    return files


def _downward(pod: Object, items: Sequence[Mapping[str, Any]], mode: int, facts: PodFacts) -> dict[str, Content]:
    files: dict[str, Content] = {}
    for item in items:
        path = item.get("path", "")
        _check(path)
        try:
            if "fieldRef" in item:
                text = downward.field_value(
                    pod, item["fieldRef"].get("fieldPath", ""), host_ip=facts.host_ip, pod_ip=facts.pod_ip
                )
            else:
                reference = item.get("resourceFieldRef") or {}
                containers = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
                named = [found for found in containers if found["name"] == reference.get("containerName")]
                if not named:
                    raise ProjectionError(f"unable to find container {reference.get('containerName')!r}")
                text = downward.resource_value(named[0], reference, facts.allocatable)
        except downward.FieldError as error:
            raise ProjectionError(str(error)) from error
        files[path] = Content(text.encode(), _mode(item.get("mode"), mode))
    return files


def _check(path: str) -> None:
    try:
        check_path(path)
    except ValueError as error:
        raise ProjectionError(str(error)) from error


def _mode(value: int | None, default: int = _DEFAULT_MODE) -> int:
    return default if value is None else value & 0o777
