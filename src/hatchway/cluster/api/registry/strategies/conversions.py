"""Defaults and validation of the field `spec.conversion` of CustomResourceDefinitions.

From apiextensions-apiserver's `pkg/apis/apiextensions/validation/validation.go` (`validateCustomResourceConversion`)
and `v1/defaults.go`. Messages use the field names of Kubernetes' internal type: `webhookClientConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.webhookclients import (
    REVIEW_VERSIONS,
    bundle_errors,
    review_version_errors,
    service_errors,
    url_errors,
)
from hatchway.errors import Cause

__all__ = ["conversion_errors", "set_conversion_defaults"]

Json = Any
Source = Mapping[str, Json]

_AT = "spec.conversion"
_PORT = 443


def set_conversion_defaults(conversion: dict[str, Json]) -> None:
    """Set the port of the webhook's Service."""
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = _PORT


def conversion_errors(conversion: Source, before: Source | None) -> list[Cause]:
    """Return the errors in a conversion. before: the stored conversion; None for a new definition."""
    strategy, hook = conversion.get("strategy") or "", conversion.get("webhook")
    config, versions = (hook or {}).get("clientConfig"), (hook or {}).get("conversionReviewVersions") or []
    if not strategy:
        causes = [v.required(f"{_AT}.strategy")]
    elif strategy not in ("None", "Webhook"):
        causes = [v.not_supported(f"{_AT}.strategy", strategy, ("None", "Webhook"))]
    else:
        causes = []
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        if config is not None:
            causes.append(v.forbidden(f"{_AT}.webhookClientConfig", text))
        if versions:
            causes.append(v.forbidden(f"{_AT}.conversionReviewVersions", text))
        return causes
    if config is None:
        causes.append(v.required(f"{_AT}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        causes += _client_errors(config, before)
    known = ((before or {}).get("webhook") or {}).get("conversionReviewVersions") or []
    # If the stored list has no version that the server knows, the new list does not need such a version.
    needs_known = not known or bool(set(known) & set(REVIEW_VERSIONS))
    at = f"{_AT}.conversionReviewVersions"
    return causes + review_version_errors(versions, at, detail="", needs_known=needs_known)


def _client_errors(config: Source, before: Source | None) -> list[Cause]:
    at = f"{_AT}.webhookClientConfig"
    url, service, bundle = config.get("url"), config.get("service"), config.get("caBundle") or ""
    if (url is None) == (service is None):
        causes = [v.required(at, "exactly one of url or service is required")]
    elif url is not None:
        causes = url_errors(url, f"{at}.url")
    else:
        causes = service_errors(service or {}, f"{at}.service")
    if bundle and not _had_bad_bundle(before):
        causes += bundle_errors(bundle, f"{at}.caBundle")
    return causes


def _had_bad_bundle(before: Source | None) -> bool:
    """Return True when the stored bundle is invalid. In this case, the new bundle may be invalid, too."""
    former = (((before or {}).get("webhook") or {}).get("clientConfig") or {}).get("caBundle") or ""
    return bool(former) and bool(bundle_errors(former, ""))
