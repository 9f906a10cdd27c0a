"""Makes the URL paths of resources on an API server: `deployments.apps` → /apis/apps/v1/.../deployments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# The directory of a pod's own credentials: token, ca.crt, namespace.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The cluster-scoped resources that Hatchway itself uses.
CLUSTER_SCOPED = frozenset(
    {
        "namespaces",
        "nodes",
        "persistentvolumes",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "tokenreviews.authentication.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "storageclasses.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
        "ingressclasses.networking.k8s.io",
        "ipaddresses.networking.k8s.io",
        "servicecidrs.networking.k8s.io",
        "deviceclasses.resource.k8s.io",
        "resourceslices.resource.k8s.io",
        "priorityclasses.scheduling.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiservices.apiregistration.k8s.io",
    }
)
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class ResourceName:
    """A parsed resource: `widgets.v1beta1.example.com` is (`example.com`, `v1beta1`, `widgets`)."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """Return the group and version as in an object's `apiVersion`: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def namespaced(self) -> bool:
        """Return True when its objects have a namespace. Types that are not in `CLUSTER_SCOPED` count as namespaced."""
        return (f"{self.plural}.{self.group}" if self.group else self.plural) not in CLUSTER_SCOPED

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, of one object or of its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=":"))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def parse_resource(resource: str) -> ResourceName:
    """Parse `pods`, `deployments.apps` or `widgets.v1beta1.example.com`. The default version is v1."""
    plural, _, rest = resource.partition(".")
    first, _, group = rest.partition(".")
    if _VERSION.match(first):
        return ResourceName(group, first, plural)
    return ResourceName(rest, "v1", plural)
