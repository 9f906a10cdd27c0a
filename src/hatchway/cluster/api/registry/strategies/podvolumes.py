"""Volumes of a pod spec: validation (`ValidateVolumes` in `pkg/apis/core/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.registry.strategies.claimspec import validate_claim_spec
from hatchway.errors import Cause

Spec = dict[str, Any]
# The names of a pod's volumes.
VolumeNames = set[str]

_MODE_ERROR = "must be a number between 0 and 0777 (octal), both inclusive"
_VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def validate_volumes(volumes: list[Spec], at: str, causes: list[Cause]) -> VolumeNames:
    """Add the errors in volumes to `causes`. Return the names that containers may mount. at: their path."""
    names: VolumeNames = set()
    for index, volume in enumerate(volumes):
        here = f"{at}[{index}]"
        name = volume.get("name", "")
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        for extra in sources[1:]:
            causes.append(v.forbidden(f"{here}.{extra}", "may not specify more than 1 volume type"))
        if not sources:
            causes.append(v.required(here, "must specify a volume type"))
        _validate_source(volume, here, causes)
        if not name:
            causes.append(v.required(f"{here}.name"))
        else:
            causes += v.each(f"{here}.name", name, v.dns1123_label(name))
        if name in names:
            causes.append(v.duplicate(f"{here}.name", name))
        names.add(name)
    return names


def _validate_source(volume: Spec, at: str, causes: list[Cause]) -> None:
    for key, field in (("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName")):
        source = volume.get(key)
        if source is None:
            continue
        if not source.get(field):
            causes.append(v.required(f"{at}.{key}.{field}"))
        _validate_mode(source.get("defaultMode"), f"{at}.{key}.defaultMode", causes)
        for index, item in enumerate(source.get("items") or ()):
            _validate_item(item, f"{at}.{key}.items[{index}]", causes)
    host = volume.get("hostPath")
    if host is not None:
        validate_host_path(host, f"{at}.hostPath", causes)
    ephemeral = volume.get("ephemeral")
    if ephemeral is not None:
        template = ephemeral.get("volumeClaimTemplate")
        if template is None:
            causes.append(v.required(f"{at}.ephemeral.volumeClaimTemplate"))
        else:
            _validate_claim_template(template, f"{at}.ephemeral.volumeClaimTemplate", causes)
    limit = (volume.get("emptyDir") or {}).get("sizeLimit")
    if limit is not None and quantity_value(limit) < 0:
        text = "SizeLimit field must be a valid resource quantity"
        causes.append(v.forbidden(f"{at}.emptyDir.sizeLimit", text))
    downward = volume.get("downwardAPI")
    if downward is not None:
        _validate_mode(downward.get("defaultMode"), f"{at}.downwardAPI.defaultMode", causes)
        for item in downward.get("items") or ():
            _validate_downward(item, f"{at}.downwardAPI", causes)
    if volume.get("projected") is not None:
        _validate_projected(volume["projected"], f"{at}.projected", causes)
    server = volume.get("nfs")
    if server is not None:
        for key in ("server", "path"):
            if not server.get(key):
                causes.append(v.required(f"{at}.nfs.{key}"))
        if not server.get("path", "").startswith("/"):
            causes.append(v.invalid(f"{at}.nfs.path", server.get("path", ""), "must be an absolute path"))


def validate_host_path(host: Spec, at: str, causes: list[Cause]) -> None:
    """Add the errors in a hostPath source, of a pod or of a PersistentVolume, to `causes`. at: its path."""
    path = host.get("path", "")
    if not path:
        causes.append(v.required(f"{at}.path"))
    elif ".." in path.split("/"):
        causes.append(v.invalid(f"{at}.path", path, "must not contain '..'"))
    kind = host.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        causes.append(v.not_supported(f"{at}.type", kind, _HOST_PATH_TYPES))


def _validate_claim_template(template: Spec, at: str, causes: list[Cause]) -> None:
    """Check the template of a generic ephemeral volume (`ValidatePersistentVolumeClaimTemplate`)."""
    metadata = template.get("metadata") or {}
    causes += v.labels(metadata.get("labels"), f"{at}.metadata.labels")
    for key in metadata.get("annotations") or ():
        causes += v.each(f"{at}.metadata.annotations", key, v.qualified_name(key.lower()))
    for key in sorted(metadata.keys() - {"labels", "annotations"}):
        if metadata[key] is not None:
            causes.append(v.forbidden(f"{at}.metadata.{key}", "may not be set on a claim template"))
    causes += validate_claim_spec(template.get("spec") or {}, f"{at}.spec")


def _validate_mode(mode: int | None, at: str, causes: list[Cause]) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        causes.append(v.invalid(at, mode, _MODE_ERROR))


def _validate_item(item: Spec, at: str, causes: list[Cause]) -> None:
    for part in ("key", "path"):
        if not item.get(part):
            causes.append(v.required(f"{at}.{part}"))
    _visible_path(item.get("path", ""), f"{at}.path", causes)
    _validate_mode(item.get("mode"), f"{at}.mode", causes)


def _validate_downward(item: Spec, at: str, causes: list[Cause]) -> None:
    # As in Kubernetes, the field of the error is the volume, not the item.
    if not item.get("path"):
        causes.append(v.required(f"{at}.path"))
    _visible_path(item.get("path", ""), f"{at}.path", causes)
    if item.get("fieldRef") is not None:
        validate_field_ref(item["fieldRef"], f"{at}.fieldRef", _VOLUME_FIELDS, causes)
        if item.get("resourceFieldRef") is not None:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(v.invalid(at, "resource", text))
    elif item.get("resourceFieldRef") is not None:
        validate_resource_field(item["resourceFieldRef"], f"{at}.resourceFieldRef", causes, named=True)
    else:
        causes.append(v.required(at, "one of fieldRef and resourceFieldRef is required"))
    _validate_mode(item.get("mode"), f"{at}.mode", causes)


def _validate_projected(projected: Spec, at: str, causes: list[Cause]) -> None:
    paths: set[str] = set()

    def add(path: str, shown: str) -> None:
        if path and path in paths:
            causes.append(v.invalid(at, shown, "conflicting duplicate paths"))
        paths.add(path)

    _validate_mode(projected.get("defaultMode"), f"{at}.defaultMode", causes)
    for index, source in enumerate(projected.get("sources") or ()):
        here = f"{at}.sources[{index}]"
        for key in ("secret", "configMap"):
            if source.get(key) is None:
                continue
            name = source[key].get("name", "")
            if not name:
                causes.append(v.required(f"{here}.{key}.name"))
            for number, item in enumerate(source[key].get("items") or ()):
                _validate_item(item, f"{here}.{key}.items[{number}]", causes)
                add(item.get("path", ""), name)
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            _validate_downward(item, f"{here}.downwardAPI", causes)
            add(item.get("path", ""), item.get("path", ""))
        token = source.get("serviceAccountToken")
        if token is not None:
            _validate_token(token, at, f"{here}.serviceAccountToken", causes)
        if sum(value is not None for value in source.values()) > 1:
            causes.append(v.forbidden(here, "may not specify more than 1 volume type per source"))


def _validate_token(token: Spec, volume: str, at: str, causes: list[Cause]) -> None:
    seconds = token.get("expirationSeconds") or 0
    if seconds < 600:
        text = "may not specify a duration less than 10 minutes"
        causes.append(v.invalid(f"{at}.expirationSeconds", seconds, text))
    elif seconds > 2**32:
        text = "may not specify a duration larger than 2^32 seconds"
        causes.append(v.invalid(f"{at}.expirationSeconds", seconds, text))
    # As in Kubernetes, the field of the error is the volume, not the token.
    if not token.get("path"):
        causes.append(v.required(f"{volume}.path"))
    else:
        _visible_path(token["path"], f"{volume}.path", causes)


def local_path(path: str, at: str, causes: list[Cause]) -> None:
    """Check a relative path that must not leave its directory."""
    if path.startswith("/"):
        causes.append(v.invalid(at, path, "must be a relative path"))
    if ".." in path.split("/"):
        causes.append(v.invalid(at, path, "must not contain '..'"))


def _visible_path(path: str, at: str, causes: list[Cause]) -> None:
    local_path(path, at, causes)
    # The node agent uses names that begin with two dots for its own files (`..data`).
    if path.startswith("..") and not path.startswith("../") and path != "..":
        causes.append(v.invalid(at, path, "must not start with '..'"))


def validate_field_ref(reference: Spec, at: str, supported: tuple[str, ...], causes: list[Cause]) -> None:
    """Add the errors in a fieldRef to `causes`. at: its path. supported: the allowed paths without a subscript."""
    path = reference.get("fieldPath", "")
    if not path:
        causes.append(v.required(f"{at}.fieldPath"))
    elif path.endswith("']") and "['" in path:
        owner, _, key = path[:-2].partition("['")
        if owner == "metadata.annotations":
            causes += v.each(at, key.lower(), v.qualified_name(key.lower()))
        elif owner == "metadata.labels":
            causes += v.each(at, key, v.qualified_name(key))
        else:
            text = f"error converting fieldPath: field label does not support subscript: {path}"
            causes.append(v.invalid(f"{at}.fieldPath", path, text))
    elif path not in supported:
        if path in _CONVERTIBLE:
            causes.append(v.not_supported(f"{at}.fieldPath", path, supported))
        else:
            text = f"error converting fieldPath: field label not supported: {path}"
            causes.append(v.invalid(f"{at}.fieldPath", path, text))


# `ConvertDownwardAPIFieldLabel` (`pkg/apis/core/pods/helpers.go`).
_CONVERTIBLE = frozenset(
    (
        "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
        "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs", "spec.host",
    )
)  # fmt: skip


def validate_resource_field(reference: Spec, at: str, causes: list[Cause], *, named: bool = False) -> None:
    """Check a resourceFieldRef. named: True when it must name the container, as in a volume."""
    resource, divisor = reference.get("resource", ""), reference.get("divisor")
    huge = resource.startswith(("limits.hugepages-", "requests.hugepages-"))
    if named and not reference.get("containerName"):
        causes.append(v.required(f"{at}.containerName"))
    elif not resource:
        causes.append(v.required(f"{at}.resource"))
    elif resource not in _RESOURCES and not huge:
        causes.append(v.not_supported(f"{at}.resource", resource, _RESOURCES))
    if divisor in (None, "", "0", 0):
        return
    kind = resource.partition(".")[2]
    if kind == "cpu":
        if str(divisor) not in ("1m", "1"):
            text = "only divisor's values 1m and 1 are supported with the cpu resource"
            causes.append(v.invalid(f"{at}.divisor", resource, text))
    elif (resource in _RESOURCES or huge) and str(divisor) not in _SIZES:
        what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(kind, "hugepages")
        text = f"only divisor's values {', '.join(_SIZES)} are supported with the {what} resource"
        causes.append(v.invalid(f"{at}.divisor", resource, text))
