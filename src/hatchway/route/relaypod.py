"""The relay pod of one command: made on first use, renewed, replaced when it is gone, and removed at the end.

No other object in the cluster owns the pod, so the pod must always end by itself. It is deleted when the command ends.
Its program ends when the command no longer renews it (`relayprogram.py`), e.g. after `kill -9`. `activeDeadlineSeconds`
ends a pod that hangs. Pods that ended without being deleted are deleted by the next command that makes a relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import is_finished
from hatchway.kube.podstart import random_suffix, wait_until_running
from hatchway.route.contract import TargetUnreached
from hatchway.route.relayoptions import ORPHAN_SECONDS, RelayOptions

CONTAINER: Final = "relay"
LABELS: Final = {"app.kubernetes.io/managed-by": "hatchway", "app.kubernetes.io/component": "relay"}
_SELECTOR: Final = ",".join(f"{key}={value}" for key, value in LABELS.items())
# How often a relay is renewed (seconds). Without a renewal, it ends after `ORPHAN_SECONDS`.
RENEW_SECONDS: Final = 15.0
# A relay runs for at most this many seconds; then another one replaces it.
_LIFE_SECONDS: Final = 24 * 3600
# How long the program may take to listen after its container has started, and the pause between two checks (seconds).
_LISTEN_SECONDS, _LOOK_SECONDS = 20.0, 0.1
# A running relay that has not answered this many renewals in a row is replaced.
_SILENT: Final = 3
# Seconds to wait after a relay has failed to start: after the first failure, and after many failures.
_FIRST_PAUSE, _LAST_PAUSE = 2.0, 60.0
# A pod that is still pending after this many seconds belongs to no command: commands wait for minutes at most.
_STUCK_SECONDS: Final = 3600.0
# How long the removal of pods may take (seconds).
_REMOVAL_SECONDS: Final = 10.0
# The relay's port is chosen at random from this range, below the ports that the kernel gives to outgoing connections.
_FIRST_PORT, _PORTS = 10000, 20000


@dataclass(frozen=True, slots=True)
class RelayPod:
    """A relay pod that runs. uid: of the pod's object. port: the relay's port, on the pod's loopback interface."""

    namespace: str
    name: str
    uid: str
    port: int
    secret: str = field(repr=False)


def relay_pod(namespace: str, name: str, image: str, port: int, secret: str) -> Object:
    """Return the pod's object. It meets the `restricted` Pod Security Standard, and has no rights at the API server."""
    source = files("hatchway.route").joinpath("relayprogram.py").read_text()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            # With a service mesh's container in the pod, the pod would not end with the relay's program.
            "labels": {**LABELS, "sidecar.istio.io/inject": "false"},
            "annotations": {"linkerd.io/inject": "disabled"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFE_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-I", "-B", "-c", source, str(port), digest, str(ORPHAN_SECONDS)],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"cpu": "1", "memory": "256Mi"},
                    },
                }
            ],
        },
    }


# A function that renews a relay, so that it does not end. Raises TargetUnreached when the relay does not answer.
Renew = Callable[[RelayPod], Awaitable[None]]


class RelayKeeper:
    """Keeps one relay pod for a command. `run` renews the pod, and removes it at the end."""

    def __init__(self, client: Client, options: RelayOptions, renew: Renew, agreed: Callable[[], bool]) -> None:
        """Make a keeper without a pod.

        Args:
            client: sends requests to the API server.
            options: the kind of pod that may be made.
            renew: renews a relay.
            agreed: returns False when the client now leads to a cluster in which the user has not agreed to a pod.
        """
        self._client = client
        self._agreed = agreed
        self._options = options
        self._renew = renew
        self._relay: RelayPod | None = None
        self._starting: asyncio.Task[RelayPod] | None = None
        self._made: set[str] = set()
        self._failure: HatchwayError | None = None
        self._pause = _FIRST_PAUSE
        self._again_at = 0.0
        self._ended = False

    async def relay(self) -> RelayPod:
        """Return the relay; when there is none, make one and wait until it runs.

        Raises:
            HatchwayError: the relay cannot be made now, or does not start.
        """
        if self._relay is not None:
            return self._relay
        if self._ended:
            raise HatchwayError("the relay pod was removed: this command ends")
        if self._starting is None:
            if not self._agreed():
                raise HatchwayError(
                    "the kubeconfig now leads to another cluster, for which you have not agreed to a relay pod",
                    "start the command again",
                )
            if self._failure is not None and time.monotonic() < self._again_at:
                raise self._failure
            self._starting = asyncio.get_running_loop().create_task(self._start(), name="relay pod")
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    def _started(self, task: asyncio.Task[RelayPod]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # retrieve it: if the caller was cancelled, asyncio would log "never retrieved"

    async def _start(self) -> RelayPod:
        # The name is stored before the pod is created, so that the pod is removed even if the answer is lost.
        name = f"hatchway-relay-{random_suffix()}"
        await self._remove_all()
        self._made.add(name)
        try:
            relay = await self._create(name)
        except (HatchwayError, TargetUnreached) as error:
            failure = error if isinstance(error, HatchwayError) else HatchwayError(error.message, error.hint)
            self._failure, self._again_at = failure, time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LAST_PAUSE)
            await self._remove_all()
            raise failure from error
        self._failure, self._pause = None, _FIRST_PAUSE
        self._relay = relay
        return relay

    async def _create(self, name: str) -> RelayPod:
        namespace, secret = self._options.namespace, secrets.token_hex(32)
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        made = await self._create_pod(relay_pod(namespace, name, self._options.image, port, secret))
        hint = "--relay-image names another image; it needs python3, 3.8 or later"
        await wait_until_running(self._client, namespace, name, CONTAINER, hint=hint)
        relay = RelayPod(namespace, name, made["metadata"].get("uid") or "", port, secret)
        until = time.monotonic() + _LISTEN_SECONDS
        while True:
            try:
                await self._renew(relay)
            except TargetUnreached:
                if time.monotonic() > until or await self.give_up_if_gone(relay):
                    raise
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return relay

    async def _create_pod(self, pod: Object) -> Object:
        try:
            return await self._client.create("pods", pod, self._options.namespace)
        except ApiError as error:
            if error.code != 403 or "runAsUser" not in error.message:
                raise
        # OpenShift gives each namespace a range of users, and chooses one of them for a pod that names none
        # (SecurityContextConstraints).
        for field_name in ("runAsUser", "runAsGroup"):
            del pod["spec"]["securityContext"][field_name]
        return await self._client.create("pods", pod, self._options.namespace)

    async def give_up_if_gone(self, relay: RelayPod) -> bool:
        """Stop using the relay if it has ended. Return False if it has not ended, or if its state is unknown."""
        try:
            pod = await self._client.get("pods", relay.name, relay.namespace)
        except ApiError as error:
            gone = error.code == 404
        else:
            metadata = pod["metadata"]
            other = (metadata.get("uid") or "") != relay.uid
            gone = other or is_finished(pod) or bool(metadata.get("deletionTimestamp"))
        if gone:
            self.give_up(relay)
        return gone

    def give_up(self, relay: RelayPod) -> None:
        """Stop using this relay; the next connection that needs a relay makes another one."""
        if self._relay == relay:
            self._relay = None

    async def run(self) -> None:
        """Renew the relay, and replace it when it is gone, until cancelled; then remove the pods that were made."""
        silent = 0
        try:
            await self._remove_left()
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                relay = self._relay
                if relay is None:
                    silent = 0
                    continue
                try:
                    await self._renew(relay)
                except TargetUnreached:
                    silent += 1
                    if not await self.give_up_if_gone(relay):
                        if silent < _SILENT or not await self._is_running(relay):
                            continue
                        self.give_up(relay)
                    # Make the next relay now, so that no connection has to wait for it. If this fails, the next
                    # connection tries again and reports the error.
                    with contextlib.suppress(HatchwayError):
                        await self.relay()
                silent = 0
        finally:
            self._ended, self._relay = True, None
            if self._starting is not None:
                self._starting.cancel()
            # A second cancellation ends the wait, but not the removal.
            await asyncio.shield(self._remove_all())

    async def _is_running(self, relay: RelayPod) -> bool:
        """Return True when the API server answers, and still has the relay's pod."""
        try:
            await self._client.get("pods", relay.name, relay.namespace)
        except ApiError:
            return False
        return True

    async def _remove_all(self) -> None:
        """Delete every pod that this keeper has made. Pods that cannot be deleted now end by themselves."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REMOVAL_SECONDS):
                for name in sorted(self._made):
                    await self._delete(name)
                    self._made.discard(name)

    async def _remove_left(self) -> None:
        """Delete the relays of earlier commands that have ended by themselves, or have never run."""
        namespace = self._options.namespace
        try:
            found = await self._client.list("pods", namespace, label_selector=_SELECTOR)
        except ApiError:
            return  # harmless: these pods run no program, and only their objects stay in the API
        for pod in found:
            if (is_finished(pod) or _is_stuck(pod)) and pod["metadata"]["name"] not in self._made:
                await self._delete(pod["metadata"]["name"], pod["metadata"].get("uid") or "")

    async def _delete(self, name: str, uid: str = "") -> None:
        with contextlib.suppress(ApiError):
            await self._client.delete("pods", name, self._options.namespace, grace_period=1, uid=uid)


def _is_stuck(pod: Object) -> bool:
    """Return True for a pod that was made long ago and is pending: no deadline ends a pod without a node."""
    if (pod.get("status") or {}).get("phase") != "Pending":
        return False
    try:
        made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    except (KeyError, ValueError):
        return False
    return (datetime.now(UTC) - made).total_seconds() > _STUCK_SECONDS
