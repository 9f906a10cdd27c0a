"""Gets the image of a container, by its pull policy (`pkg/kubelet/images/image_manager.go`).

Texts of events and reasons are the kubelet's.
"""

from __future__ import annotations

import asyncio

from hatchway.cluster.node.backoff import FIRST, PullDelay
from hatchway.cluster.node.containersecurity import CreateError
from hatchway.cluster.node.hostprograms import why_not_pulled
from hatchway.cluster.node.imagestock import ImageStock, UnpackedImage
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.pullsecrets import may_use, pull_credentials
from hatchway.images.contents import BadImage, Image
from hatchway.images.pullservice.pullmessages import PullRequest
from hatchway.images.reference import DEFAULT_TAG, ImageNameError, Reference, parse
from hatchway.kube.api import Object

__all__ = ["ImageError", "get_image", "image_names", "parse_image"]

# The seconds between two lookups of an image for which a container waits.
LOOK_SECONDS = 2.0


class ImageError(Exception):
    """The container's image cannot be used now. The message is for the container's status.

    reason: the status' reason: ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName or
    ImageInspectError. is_new: False when an event has already reported it.
    """

    def __init__(self, reason: str, message: str, *, is_new: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_new = is_new


async def get_image(context: PodContext, container: Object) -> UnpackedImage:
    """Find or pull the image of a container, and unpack it. The caller closes it.

    Raises:
        ImageError: the image cannot be used. The events are already reported, except "Error: REASON".
        CreateError: the image is in the store, but cannot be unpacked.
    """
    text: str = container.get("image") or ""
    reference = parse_image(context, container)
    if reserved := why_not_pulled(text):
        message = f'There is no image "{text}": {reserved}'
        raise _refusal(context, container, "InspectFailed", "InvalidImageName", message)
    stock = context.node.images
    if stock is None or stock.why_not:
        return await _pull(context, stock, container, reference)
    try:
        found = await stock.find(reference)
    except BadImage as error:
        message = f'Failed to inspect image "{text}": {error}'
        raise _refusal(context, container, "InspectFailed", "ImageInspectError", message) from error
    policy = container.get("imagePullPolicy") or ("Always" if reference.tag == DEFAULT_TAG else "IfNotPresent")
    if found is not None and policy != "Always" and not await may_use(context, found, reference):
        found = None
    if policy == "Never" and found is None:
        message = f'Container image "{text}" is not present with pull policy of Never'
        raise _refusal(context, container, "ErrImageNeverPull", "ErrImageNeverPull", message)
    if found is None or policy == "Always":
        return await _pull(context, stock, container, reference)
    message = f'Container image "{text}" already present on machine and can be accessed by the pod'
    context.event("Normal", "Pulled", message, container["name"])
    context.pull_delays.pop(text, None)
    try:
        return await stock.open(found, f"{context.namespace}/{context.name}")
    except BadImage as error:
        raise CreateError(f"failed to create container: {error}") from error


def parse_image(context: PodContext, container: Object) -> Reference:
    """Return the name of a container's image. When the name is not valid, report an event and raise ImageError."""
    text: str = container.get("image") or ""
    try:
        return parse(text)
    except ImageNameError as error:
        message = f'Failed to apply default image tag "{text}": couldn\'t parse image name "{text}": {error}'
        raise _refusal(context, container, "InspectFailed", "InvalidImageName", message) from error


def _refusal(context: PodContext, container: Object, event: str, reason: str, message: str) -> ImageError:
    """Return the error for an image that cannot be looked up; report it in an event, at a limited rate."""
    now = asyncio.get_running_loop().time()
    delay = context.pull_delays.setdefault(container.get("image") or "", PullDelay())
    if now >= delay.until:
        delay.until = now + FIRST
        delay.reported.clear()
    is_new = delay.mark_reported(container["name"])
    if is_new:
        context.event("Warning", event, message, container["name"])
    return ImageError(reason, message, is_new=is_new)


async def _pull(
    context: PodContext, stock: ImageStock | None, container: Object, reference: Reference
) -> UnpackedImage:
    loop = asyncio.get_running_loop()
    name, text = container["name"], container["image"]
    delay = context.pull_delays.setdefault(text, PullDelay())
    if loop.time() < delay.until:
        message = f'Back-off pulling image "{text}"'
        is_new = delay.mark_reported(name)
        if is_new:
            context.event("Normal", "BackOff", message, name)
        raise ImageError("ImagePullBackOff", f"{message}: ErrImagePull: {delay.failure}", is_new=is_new)
    began = loop.time()
    try:
        if stock is None or stock.why_not:
            raise BadImage(stock.why_not if stock is not None else "this cluster has no store of container images")
        context.event("Normal", "Pulling", f'Pulling image "{text}"', name)
        image, pulled = await stock.pull(PullRequest(reference, await pull_credentials(context)))
        opened = await stock.open(image, f"{context.namespace}/{context.name}")
    except BadImage as error:
        why = f'failed to pull and unpack image "{reference}": {error}'
        context.event("Warning", "Failed", f'Failed to pull image "{text}": {why}', name)
        delay.record_failure(loop.time(), why)
        raise ImageError("ErrImagePull", why) from error
    waited = loop.time() - began
    message = (
        f'Successfully pulled image "{text}" in {_go_duration(pulled.seconds)} ({_go_duration(waited)} including '
        f"waiting). Image size: {pulled.size} bytes."
    )
    context.event("Normal", "Pulled", message, name)
    context.pull_delays.pop(text, None)
    return opened


def image_names(image: Image, wanted: Reference) -> tuple[str, str]:
    """Return `image` and `imageID` for a container's status, in containerd's form.

    wanted: the name in the pod. `image` is a name with a tag, if the image has one. `imageID` is a name with a digest;
    for images that did not come from a registry, the image's ID.
    """
    tag = next((name for name in (str(wanted), *image.tags) if name in image.tags), str(wanted))
    digests = [one for one in image.digests if one.startswith(f"{wanted.name}@")] or list(image.digests)
    return tag, digests[0] if digests else image.image_id


def _go_duration(seconds: float) -> str:
    """Format a duration as Go does after `Truncate(time.Millisecond)`: `393ms`, `1.2s`, `1m2.5s`."""
    milliseconds = int(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else "") + text
