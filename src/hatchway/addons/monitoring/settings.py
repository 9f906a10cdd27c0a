"""The add-on's settings, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hatchway.addons.monitoring.scrape.targetscraper import ScrapeLimits
from hatchway.addons.monitoring.tsdb.store import StoreLimits
from hatchway.errors import HatchwayError

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class StaticTarget:
    """A target that the environment names. path: with its query. https: True for HTTPS, False for HTTP."""

    job: str
    host: str
    port: int
    path: str
    https: bool


@dataclass(frozen=True, slots=True)
class MonitoringSettings:
    """The settings of one process.

    Attributes:
        data: the directory of the samples (HATCHWAY_MONITORING_DATA).
        store: the maximum number of bytes of all samples (HATCHWAY_MONITORING_LIMIT; 192 MiB if not set), and how many
            hours they are kept (HATCHWAY_MONITORING_HOURS; 24 if not set).
        scrape: seconds between two scrapes of a target (HATCHWAY_MONITORING_INTERVAL; 15 if not set).
        address: the address to listen on (HATCHWAY_MONITORING_ADDRESS).
        port: the port to listen on (HATCHWAY_MONITORING_PORT; 9090 if not set).
        dashboards_port: the port of the dashboards (HATCHWAY_MONITORING_DASHBOARDS_PORT; 3000 if not set).
        targets: more targets than those of the cluster: `JOB=URL`, separated by blanks (HATCHWAY_MONITORING_TARGETS).
        in_cluster: True when KUBERNETES_SERVICE_HOST is set: the cluster's targets are scraped.
        pod: the name of this program's pod (HATCHWAY_MONITORING_POD; HOSTNAME in a cluster if not set; "" elsewhere).
        root: the directory that contains the pod's volumes, on machines that cannot mount them (HATCHWAY_ROOT).
    """

    data: Path
    store: StoreLimits
    scrape: ScrapeLimits
    address: str
    port: int
    dashboards_port: int
    targets: tuple[StaticTarget, ...]
    in_cluster: bool
    pod: str
    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> MonitoringSettings:
        """Read the settings from environment variables. Raises HatchwayError for a value that is not valid."""
        pod_ip = environment.get("HATCHWAY_POD_IP", "")
        root = Path(environment.get("HATCHWAY_ROOT", "/"))
        # Without a private network all pods share loopback, and each pod has its own address to listen on.
        default_address = pod_ip if pod_ip.startswith("127.") else "0.0.0.0"
        in_cluster = bool(environment.get("KUBERNETES_SERVICE_HOST"))
        interval = _seconds(environment, "HATCHWAY_MONITORING_INTERVAL", 15.0)
        return cls(
            data=Path(environment.get("HATCHWAY_MONITORING_DATA") or root / "var/lib/hatchway-monitoring"),
            store=StoreLimits(
                size=_number(environment, "HATCHWAY_MONITORING_LIMIT", 192 * _MEBIBYTE),
                age=_number(environment, "HATCHWAY_MONITORING_HOURS", 24) * 3_600_000,
            ),
            scrape=ScrapeLimits(interval=interval, timeout=min(interval, 10)),
            address=environment.get("HATCHWAY_MONITORING_ADDRESS", default_address),
            port=_number(environment, "HATCHWAY_MONITORING_PORT", 9090, least=0),
            dashboards_port=_number(environment, "HATCHWAY_MONITORING_DASHBOARDS_PORT", 3000, least=0),
            targets=tuple(_target(text) for text in environment.get("HATCHWAY_MONITORING_TARGETS", "").split()),
            in_cluster=in_cluster,
            pod=environment.get("HATCHWAY_MONITORING_POD") or (environment.get("HOSTNAME", "") if in_cluster else ""),
            root=root,
        )


def _number(environment: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        found = int(text)
    except ValueError:
        raise HatchwayError(f"{name} is {text!r}, not a number") from None
    if found < least:
        raise HatchwayError(f"{name} is {found}, less than {least}")
    return found


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        found = float(text)
    except ValueError:
        raise HatchwayError(f"{name} is {text!r}, not a number") from None
    if not 0.1 <= found <= 3600:
        raise HatchwayError(f"{name} is {text}, not between 0.1 and 3600 seconds")
    return found


def _target(text: str) -> StaticTarget:
    job, _, url = text.partition("=")
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if not job or parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise HatchwayError(
            f"HATCHWAY_MONITORING_TARGETS: {text!r} is no target", "it is JOB=URL, such as node=http://10.0.0.1:9100"
        )
    path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    return StaticTarget(job, parts.hostname, port, path, parts.scheme == "https")
