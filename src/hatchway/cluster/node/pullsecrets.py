"""Reads the credentials that a pod gives for pulling its images (`kubelet_pods.go`, getPullSecretsForPod)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from dataclasses import replace

from hatchway.cluster.node.podcontext import PodContext
from hatchway.errors import ApiError
from hatchway.images.contents import BadImage, Image
from hatchway.images.pulling.credentials import BadCredentials, Credential, matching, parse_docker_config
from hatchway.images.reference import Reference
from hatchway.kube.api import Object

__all__ = ["may_use", "pull_credentials"]

log = logging.getLogger(__name__)

# By a Secret's type: the key of its data, and whether it has the older format.
_FORMS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson", False),
    "kubernetes.io/dockercfg": (".dockercfg", True),
}
# The most Secrets of one pod that are read.
_MOST_SECRETS = 50


async def may_use(context: PodContext, image: Image, reference: Reference) -> bool:
    """Return True when a pod may use an image of the store without a pull.

    An image that was pulled with a pod's Secret is only for pods with this Secret, or with the same credential in
    another Secret. All other pods pull the image themselves (KEP-2535, the policy NeverVerifyPreloadedImages).
    """
    if reference.name not in image.private:
        return True
    try:
        credentials = await pull_credentials(context)
    except BadImage:
        # The image is pulled now, and the pull reports this error.
        return False
    # In a thread, because an untrusted Secret may have many patterns.
    found = await asyncio.to_thread(matching, credentials, reference.name)
    return image.may_use(reference.name, [one.grant for one in found if one.grant is not None])


async def pull_credentials(context: PodContext) -> tuple[Credential, ...]:
    """Return the credentials of the pod's imagePullSecrets, including the secrets of its service account.

    An event names the Secrets that cannot be read. Raises BadImage for a Secret with invalid content.
    """
    found: list[Credential] = []
    missing = []
    references = context.pod["spec"].get("imagePullSecrets") or ()
    for name in list(dict.fromkeys(one.get("name") or "" for one in references))[:_MOST_SECRETS]:
        if not name:
            continue
        try:
            secret = await context.node.sources.read("secrets", context.namespace, name)
        except ApiError as error:
            log.info("secret %s/%s cannot be read: %s", context.namespace, name, error.message)
            secret = None
        if secret is None:
            missing.append(name)
        else:
            found += _credentials(secret)
    if missing:
        message = (
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may not "
            "succeed."
        )
        context.event("Warning", "FailedToRetrieveImagePullSecret", message)
    return tuple(dict.fromkeys(found))


def _credentials(secret: Object) -> list[Credential]:
    """Return a Secret's credentials. As in the kubelet, Secrets of other types are ignored."""
    key, legacy = _FORMS.get(secret.get("type") or "", ("", False))
    text = (secret.get("data") or {}).get(key)
    if not text:
        return []
    try:
        found = parse_docker_config(base64.b64decode(text, validate=True), legacy=legacy)
        return [replace(one, secret=secret["metadata"].get("uid") or "") for one in found]
    except (binascii.Error, BadCredentials) as error:
        name = f"{secret['metadata'].get('namespace', '')}/{secret['metadata']['name']}"
        raise BadImage(f'the image pull secret "{name}" is not valid: {error}') from error
