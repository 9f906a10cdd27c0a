"""Makes the answer of `/configz`: this kubelet's settings as a KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""

from __future__ import annotations

from hatchway.cluster import plan
from hatchway.cluster.node import apiaccess, backoff, logfiles, registration
from hatchway.cluster.node.config import SHUT_DOWN_SECONDS, AgentConfig, NodeSpec
from hatchway.images.pullservice.pullboard import AT_ONCE
from hatchway.kube.api import Object


def configuration(config: AgentConfig, node: NodeSpec, port: int) -> Object:
    """Return the answer of `/configz`. It has only fields that are settings of this kubelet.

    port: the port on which the kubelet listens.
    """
    return {
        "kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "enableServer": True,
            "address": node.ip,
            "port": port,
            "tlsMinVersion": "VersionTLS12",
            "tlsCertFile": f"kubelet-{node.name}.crt",
            "tlsPrivateKeyFile": f"kubelet-{node.name}.key",
            "authentication": {
                "x509": {"clientCAFile": "ca.crt"},
                "webhook": {"enabled": True, "cacheTTL": _duration(apiaccess.TOKEN_SECONDS)},
                "anonymous": {"enabled": False},
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": {
                    "cacheAuthorizedTTL": _duration(apiaccess.ALLOWED_SECONDS),
                    "cacheUnauthorizedTTL": _duration(apiaccess.DENIED_SECONDS),
                },
            },
            "registerNode": True,
            "nodeStatusUpdateFrequency": _duration(registration.RENEW_SECONDS),
            "nodeStatusReportFrequency": _duration(registration.REPORT_SECONDS),
            "nodeLeaseDurationSeconds": registration.LEASE_SECONDS,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": [config.cluster_dns] if config.cluster_dns else [],
            "resolvConf": "/etc/resolv.conf",
            "podCIDR": str(plan.pod_cidr(node.index, loopback=config.loopback)),
            "maxPods": registration.MAX_PODS,
            "podPidsLimit": -1,
            "containerLogMaxSize": f"{logfiles.ROTATE_BYTES >> 20}Mi",
            "containerLogMaxFiles": logfiles.KEPT_FILES,
            "crashLoopBackOff": {"maxContainerRestartPeriod": _duration(backoff.LAST)},
            "shutdownGracePeriod": _duration(SHUT_DOWN_SECONDS),
            "allowedUnsafeSysctls": [],
            "enableDebuggingHandlers": True,
            "enableSystemLogHandler": True,
            "enableSystemLogQuery": False,
            "failSwapOn": False,
            "cgroupsPerQOS": bool(config.control_groups),
            "makeIPTablesUtilChains": False,
            "serializeImagePulls": False,
            "maxParallelImagePulls": AT_ONCE,
            # 100: images are not deleted when the disk fills up.
            "imageGCHighThresholdPercent": 100,
            "imagePullCredentialsVerificationPolicy": "NeverVerifyPreloadedImages",
            "seccompDefault": True,
        }
    }


def _duration(seconds: float) -> str:
    """Format a time as a metav1.Duration."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
