"""Reads the credentials that a pod gives for pulling its images (`kubelet_pods.go`, getPullSecretsForPod)."""

from __future__ import annotations

import base64
import binascii
import logging

from hatchway.cluster.node.podcontext import PodContext
from hatchway.errors import ApiError
from hatchway.images.contents import BadImage
from hatchway.images.pulling.credentials import BadCredentials, Credential, parse_docker_config
from hatchway.kube.api import Object

__all__ = ["pull_credentials"]

log = logging.getLogger(__name__)

# By a Secret's type: the key of its data, and whether it has the older format.
_FORMS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson", False),
    "kubernetes.io/dockercfg": (".dockercfg", True),
}
# The most Secrets of one pod that are read.
_MOST_SECRETS = 50


async def pull_credentials(context: PodContext) -> tuple[Credential, ...]:
    """Return the credentials of the pod's imagePullSecrets, which include those of its service account.

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
        return parse_docker_config(base64.b64decode(text, validate=True), legacy=legacy)
    except (binascii.Error, BadCredentials) as error:
        name = f"{secret['metadata'].get('namespace', '')}/{secret['metadata']['name']}"
        raise BadImage(f'the image pull secret "{name}" is not valid: {error}') from error
