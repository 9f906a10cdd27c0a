"""Gets the image of a container, by its pull policy (`pkg/kubelet/images/image_manager.go`).

Texts of events and reasons are the kubelet's.
"""

from __future__ import annotations

import asyncio

from hatchway.cluster.node.backoff import PullDelay
from hatchway.cluster.node.containersecurity import CreateError
from hatchway.cluster.node.imagestock import ImageStock, UnpackedImage
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.pullsecrets import pull_credentials
from hatchway.images.contents import BadImage, Image
from hatchway.images.pullmessages import PullRequest
from hatchway.images.reference import DEFAULT_TAG, ImageNameError, Reference, parse
from hatchway.kube.api import Object

__all__ = ["ImageError", "get_image", "image_names", "parse_image"]

# The seconds until an image is looked for again that a container waits for.
LOOK_SECONDS = 2.0


class ImageError(Exception):
    """The container's image cannot be used now. The message is the one in the status.

    reason: the reason there: ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName or ImageInspectError.
    is_new: False when it has been reported by an event already.
    """

    def __init__(self, reason: str, message: str, *, is_new: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_new = is_new


async def get_image(context: PodContext, container: Object) -> UnpackedImage:
    """Find or pull the image of a container, and unpack it. The caller closes its use.

    Raises:
        ImageError: it cannot be used; events that say why have been reported, except "Error: REASON".
        CreateError: it is there, and cannot be unpacked.
    """
    name = container["name"]
    text: str = container.get("image") or ""
    reference = parse_image(context, container)
    stock = context.node.images
    if stock is None or stock.why_not:
        why = stock.why_not if stock is not None else "this node has no image store"
        message = f'Failed to pull image "{text}": {why}'
        context.event("Warning", "Failed", message, name)
        raise ImageError("ErrImagePull", message)
    try:
        found = await stock.find(reference)
    except BadImage as error:
        message = f'Failed to inspect image "{text}": {error}'
        context.event("Warning", "InspectFailed", message, name)
        raise ImageError("ImageInspectError", message) from error
    policy = container.get("imagePullPolicy") or ("Always" if reference.tag == DEFAULT_TAG else "IfNotPresent")
    if policy == "Never" and found is None:
        message = f'Container image "{text}" is not present with pull policy of Never'
        context.event("Warning", "ErrImageNeverPull", message, name)
        raise ImageError("ErrImageNeverPull", message)
    if found is None or policy == "Always":
        return await _pull(context, stock, container, reference)
    context.event("Normal", "Pulled", f'Container image "{text}" already present on machine', name)
    try:
        return await stock.open(found, f"{context.namespace}/{context.name}")
    except BadImage as error:
        raise CreateError(f"failed to create container: {error}") from error


def parse_image(context: PodContext, container: Object) -> Reference:
    """Return the name of a container's image. Raises ImageError after an event, when it is no name."""
    text: str = container.get("image") or ""
    try:
        return parse(text)
    except ImageNameError as error:
        message = (
            f'Failed to apply default image tag "{text}": couldn\'t parse image name "{text}": {error}'
        )
        context.event("Warning", "InspectFailed", message, container["name"])
        raise ImageError("InvalidImageName", message) from error


async def _pull(context: PodContext, stock: ImageStock, container: Object, reference: Reference) -> UnpackedImage:
    loop = asyncio.get_running_loop()
    name, text = container["name"], container["image"]
    delay = context.pull_delays.setdefault(text, PullDelay())
    if loop.time() < delay.until:
        message = f'Back-off pulling image "{text}"'
        is_new, delay.reported = not delay.reported, True
        if is_new:
            context.event("Normal", "BackOff", message, name)
        raise ImageError("ImagePullBackOff", f"{message}: ErrImagePull: {delay.failure}", is_new=is_new)
    context.event("Normal", "Pulling", f'Pulling image "{text}"', name)
    began = loop.time()
    try:
        image, pulled = await stock.pull(PullRequest(reference, await pull_credentials(context)))
        opened = await stock.open(image, f"{context.namespace}/{context.name}")
    except BadImage as error:
        context.event("Warning", "Failed", f'Failed to pull image "{text}": {error}', name)
        delay.failed(loop.time(), str(error))
        raise ImageError("ErrImagePull", str(error)) from error
    waited = loop.time() - began
    message = (
        f'Successfully pulled image "{text}" in {_go_duration(pulled.seconds)} ({_go_duration(waited)} including '
        f"waiting). Image size: {pulled.size} bytes."
    )
    context.event("Normal", "Pulled", message, name)
    del context.pull_delays[text]
    return opened


def image_names(image: Image, wanted: Reference) -> tuple[str, str]:
    """Return `image` and `imageID` for a container's status, as containerd gives them.

    wanted: the name in the pod. `image` is a name with a tag if the image has one; `imageID` is a name with a digest,
    for images that came without a registry their own ID.
    """
    tag = next((name for name in (str(wanted), *image.tags) if name in image.tags), str(wanted))
    digests = [one for one in image.digests if one.startswith(f"{wanted.name}@")] or list(image.digests)
    return tag, digests[0] if digests else image.image_id


def _go_duration(seconds: float) -> str:
    """Return a time as Go prints it after `Truncate(time.Millisecond)`: `393ms`, `1.2s`, `1m2.5s`."""
    milliseconds = int(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else "") + text
