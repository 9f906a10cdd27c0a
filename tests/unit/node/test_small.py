"""Small parts of a node: images, /etc, the Node object, the configuration, and the users who may call a kubelet."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.auth import pki
from hatchway.cluster.node import configz, hostprograms, nameresolution, registration, sysctls
from hatchway.cluster.node.apiaccess import Access, Denied
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.containersecurity import CreateError
from hatchway.errors import HatchwayError, service_unavailable
from hatchway.kube.api import Object
from hatchway.proxy.routing import Peer, RequestHead


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27@sha256:abc", "nginx"),
        ("docker.io/hatchway/dns:1", "hatchway/dns"),
        ("localhost:5000/team/web:2", "localhost:5000/team/web"),
    ],
)
def test_image_names(image: str, name: str) -> None:
    assert hostprograms.repository(image) == name


def test_with_host_programs_the_command_runs_for_any_image() -> None:
    assert hostprograms.is_host_image("nginx", ["sh"], {}, host_programs=True)
    found = hostprograms.host_program("nginx", ["sh"], ["-c", "true"], {})
    assert found.argv == ["sh", "-c", "true"] and "this machine's programs" in found.note
    assert not hostprograms.is_host_image("nginx", [], {}, host_programs=True)
    assert not hostprograms.is_host_image("nginx", ["sh"], {}, host_programs=False)


@pytest.mark.parametrize("image", ["hatchway/host", "docker.io/hatchway/host:1", "hatchway/dns", "own"])
def test_images_that_stand_for_programs_of_this_machine(image: str) -> None:
    assert hostprograms.is_host_image(image, [], {"own": ["x"]}, host_programs=False)


def test_shipped_images_run_without_a_command() -> None:
    assert hostprograms.host_program("hatchway/dns:latest", (), ["-v"], {}).argv == [
        sys.executable,
        "-m",
        "hatchway.addons.dns",
        "-v",
    ]
    assert hostprograms.host_program("own", (), (), {"own": ["x"]}).argv == ["x"]


@pytest.mark.parametrize(
    ("args", "argv"),
    [((), ["sh"]), (("-c", "true"), ["sh", "-c", "true"]), (("sh", "-c", "true"), ["sh", "-c", "true"])],
)
def test_arguments_of_a_shell_are_a_command_of_their_own(args: tuple[str, ...], argv: list[str]) -> None:
    """`kubectl run -it NAME --image=hatchway/shell -- sh -c true` works as with busybox."""
    assert hostprograms.host_program("hatchway/shell", (), args, {}).argv == argv


def test_the_image_of_host_programs_runs_a_command_or_arguments() -> None:
    assert hostprograms.host_program("hatchway/host", (), ("sleep", "9"), {}).argv == ["sleep", "9"]
    assert hostprograms.host_program("hatchway/host", ("sleep",), ("9",), {}).argv == ["sleep", "9"]
    with pytest.raises(CreateError, match=r"no command specified.*this machine's programs"):
        hostprograms.host_program("hatchway/host", (), (), {})


DOMAIN = "cluster.local"


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def resolv(tmp_path: Path, cluster_dns: str = "10.96.0.10", host_nameserver: str = "", **spec: Any) -> list[str]:
    host = tmp_path / "resolv.conf"
    host.write_text("# x\nnameserver 9.9.9.9\nsearch example.com\noptions edns0 timeout:1\n")
    text = nameresolution.resolv_conf(
        pod(**spec),
        cluster_dns=cluster_dns,
        cluster_domain="cluster.local",
        host_nameserver=host_nameserver,
        host_file=host,
    )
    return text.splitlines()


def test_resolv_conf_if_pods_can_reach_the_nameservers_of_this_machine(tmp_path: Path) -> None:
    reached = "172.18.255.53"
    assert resolv(tmp_path, host_nameserver=reached) == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local example.com",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    of_host = ["search example.com", f"nameserver {reached}", "options edns0 timeout:1"]
    assert resolv(tmp_path, host_nameserver=reached, dnsPolicy="Default") == of_host
    assert resolv(tmp_path, host_nameserver=reached, hostNetwork=True) == of_host
    config = {"nameservers": ["1.1.1.1"]}
    assert resolv(tmp_path, host_nameserver=reached, dnsPolicy="None", dnsConfig=config) == ["nameserver 1.1.1.1"]


def test_resolv_conf_by_policy(tmp_path: Path) -> None:
    assert resolv(tmp_path) == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    of_host = ["search example.com", "nameserver 9.9.9.9", "options edns0 timeout:1"]
    assert resolv(tmp_path, dnsPolicy="Default") == of_host
    assert resolv(tmp_path, cluster_dns="") == of_host
    config = {
        "nameservers": ["1.1.1.1", "10.96.0.10"],
        "searches": ["x.y"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    assert resolv(tmp_path, dnsPolicy="None", dnsConfig=config) == [
        "search x.y",
        "nameserver 1.1.1.1",
        "nameserver 10.96.0.10",
        "options ndots:2 edns0",
    ]
    assert resolv(tmp_path, dnsConfig=config)[1:] == [
        "nameserver 10.96.0.10",
        "nameserver 1.1.1.1",
        "options ndots:2 edns0",
    ]


def test_a_pod_that_needs_a_missing_name_server_gets_a_message() -> None:
    assert nameresolution.missing_dns(pod(), "").startswith('pod: "web_shop()". kubelet does not have ClusterDNS IP')
    assert nameresolution.missing_dns(pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), "")
    for fine in (pod(dnsPolicy="Default"), pod(dnsPolicy="None"), pod(hostNetwork=True)):
        assert nameresolution.missing_dns(fine, "") == ""
    assert nameresolution.missing_dns(pod(), "10.96.0.10") == ""


def test_hosts_and_host_name() -> None:
    text = nameresolution.hosts(pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a", "b.c"]}]), "10.244.1.2", DOMAIN)
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert text.endswith("10.244.1.2\tweb\n\n# Entries added by HostAliases.\n10.0.0.1\ta\tb.c\n")
    long = {"metadata": {"name": "x" * 62 + "-y"}, "spec": {}}
    assert nameresolution.hostname(long) == "x" * 62
    assert nameresolution.hostname(pod(hostname="h")) == "h"


def test_the_full_host_name_of_a_pod_with_a_subdomain() -> None:
    member = pod(hostname="h", subdomain="ring")
    assert nameresolution.hosts(member, "10.244.1.2", DOMAIN).endswith("10.244.1.2\th.ring.shop.svc.cluster.local\th\n")
    assert nameresolution.kernel_hostname(member, DOMAIN) == "h"
    whole = pod(hostname="h", subdomain="ring", setHostnameAsFQDN=True)
    assert nameresolution.kernel_hostname(whole, DOMAIN) == "h.ring.shop.svc.cluster.local"
    assert nameresolution.kernel_hostname(pod(hostname="h", setHostnameAsFQDN=True), DOMAIN) == "h"
    with pytest.raises(OSError, match=r"is too long \(64 characters is the max, 77 characters requested\)"):
        nameresolution.kernel_hostname(pod(hostname="h" * 49, subdomain="ring", setHostnameAsFQDN=True), DOMAIN)
    own = pod(hostnameOverride="other.example.com", subdomain="ring")
    assert nameresolution.kernel_hostname(own, DOMAIN) == "other.example.com"
    assert nameresolution.hosts(own, "10.244.1.2", DOMAIN).endswith("10.244.1.2\tother.example.com\n")


def test_sysctls() -> None:
    def context(*names: str) -> dict[str, Any]:
        return {"sysctls": [{"name": name, "value": "1"} for name in names]}

    safe = pod(securityContext=context("net.ipv4.tcp_syncookies", "net/ipv4/tcp_fin_timeout"))
    assert sysctls.wanted(safe) == {"net.ipv4.tcp_syncookies": "1", "net.ipv4.tcp_fin_timeout": "1"}
    assert not sysctls.refusal(safe) and not sysctls.refusal(pod())
    for name in ("kernel.msgmax", "net/ipv4.tcp_syncookies", "net.core.somaxconn", "vm.swappiness"):
        assert "not allowlisted" in sysctls.refusal(pod(securityContext=context("net.ipv4.tcp_syncookies", name)))


def test_the_control_plane_has_its_taint_and_label() -> None:
    first = registration.node_object(NodeSpec("control-plane", 0, "172.18.0.2"), loopback=False)
    assert first["spec"]["taints"] == [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    # Another component sets the role label, because a node may not set it on its own object.
    role = "node-role.kubernetes.io/control-plane"
    assert role not in first["metadata"]["labels"]
    given = registration.control_plane_object(NodeSpec("control-plane", 0, "172.18.0.2"), loopback=False)
    assert given == {**first, "metadata": {**first["metadata"], "labels": {**first["metadata"]["labels"], role: ""}}}
    other = registration.node_object(NodeSpec("node-1", 1, "172.18.0.3"), loopback=False)
    assert other["spec"] == {
        "podCIDR": "10.244.1.0/24",
        "podCIDRs": ["10.244.1.0/24"],
        "providerID": "hatchway://node-1",
    }


def test_a_nodes_conditions_keep_their_times_while_nothing_changes() -> None:
    node = NodeSpec("node-1", 1, "172.18.0.3")
    facts, resources = registration.machine_facts(), registration.capacity()
    first = registration.node_status(node, resources, facts, "2026-01-02T03:00:00Z")
    second = registration.node_status(node, resources, facts, "2026-01-02T03:04:59Z")
    assert registration.with_transitions(first, second) == first
    late = registration.node_status(node, resources, facts, "2026-01-02T03:05:00Z")
    ready = registration.with_transitions(first, late)["conditions"][-1]
    assert ready["lastHeartbeatTime"] == "2026-01-02T03:05:00Z"
    assert ready["lastTransitionTime"] == "2026-01-02T03:00:00Z"
    lost = {**first, "conditions": [{**c, "status": "Unknown"} for c in first["conditions"]]}
    again = registration.with_transitions(lost, second)["conditions"][-1]
    assert again["status"] == "True" and again["lastTransitionTime"] == "2026-01-02T03:04:59Z"
    assert facts["kubeletVersion"].startswith("v1.37.") and facts["containerRuntimeVersion"].startswith("hatchway://")


def test_the_configuration_is_equal_after_saving_and_loading(tmp_path: Path) -> None:
    config = AgentConfig(str(tmp_path), [NodeSpec("a", 0, "1.2.3.4")], "https://10.96.0.1:443", images={"x": ["y"]})
    config.save(tmp_path / "agent.json")
    assert AgentConfig.load(tmp_path / "agent.json") == config
    for text in ("", "[]", "{}", '{"nodes": [{"name": "a"}]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(HatchwayError, match=r"bad\.json"):
            AgentConfig.load(tmp_path / "bad.json")
    with pytest.raises(HatchwayError):
        AgentConfig.load(tmp_path / "none.json")


class Reviews:
    """Answers TokenReviews and SubjectAccessReviews: only alice's token is valid, and she may get nodes/metrics."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def create(self, resource: str, obj: Object, *_: Any, **__: Any) -> Object:
        if self.down:
            raise service_unavailable("down")
        assert obj["metadata"] == {}, "clients take the namespace from the metadata"
        if resource.startswith("tokenreviews"):
            self.asked.append("token")
            if obj["spec"]["token"] == "alice-token":
                return {"status": {"authenticated": True, "user": {"username": "alice", "groups": ["devs"]}}}
            return {"status": {"authenticated": False}}
        attributes = obj["spec"]["resourceAttributes"]
        assert (attributes["resource"], attributes["name"], obj["spec"]["groups"]) == ("nodes", "node-1", ["devs"])
        self.asked.append(f"{attributes['verb']} {attributes['subresource']}")
        return {"status": {"allowed": (attributes["verb"], attributes["subresource"]) == ("get", "metrics")}}


def head(path: str, token: str = "", certificate: bytes | None = None, method: str = "GET") -> RequestHead:
    headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
    peer = Peer(("127.0.0.1", 1), "https", certificate)
    return RequestHead(method, path.encode(), path.encode(), None, headers, "1.1", peer)


async def test_each_token_is_reviewed_once() -> None:
    reviews = Reviews()
    access = Access(reviews, "node-1")  # type: ignore[arg-type]
    await access.check(head("/metrics", "alice-token"))
    await access.check(head("/metrics", "alice-token"))
    assert reviews.asked == ["token", "get metrics"]
    with pytest.raises(Denied) as caught:
        await access.check(head("/pods", "alice-token"))
    assert caught.value.status == 403
    assert caught.value.text == "Forbidden (user=alice, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    with pytest.raises(Denied) as caught:
        await access.check(head("/metrics", "alice-token", method="POST"))
    assert caught.value.status == 403


async def test_unknown_users_and_an_unreachable_api_server() -> None:
    reviews = Reviews()
    access = Access(reviews, "node-1")  # type: ignore[arg-type]
    for request in (head("/healthz"), head("/healthz", "wrong"), head("/healthz", certificate=b"junk")):
        with pytest.raises(Denied) as caught:
            await access.check(request)
        assert (caught.value.status, caught.value.text) == (401, "Unauthorized")
    reviews.down = True
    with pytest.raises(Denied) as caught:
        await access.check(head("/healthz", "other"))
    assert caught.value.status == 500


async def test_the_api_servers_certificate_allows_all_requests(tmp_path: Path) -> None:
    authority = pki.ensure(tmp_path, cluster_name="t", node_names=["n"], node_ips=["127.0.0.2"], api_ips=())
    der = ssl.PEM_cert_to_DER_cert(authority.kubelet_client.cert.read_text())
    reviews = Reviews()
    await Access(reviews, "node-1").check(head("/containerLogs/a/b/c", certificate=der))  # type: ignore[arg-type]
    assert reviews.asked == []


def test_configz_shows_whether_pods_have_control_groups(tmp_path: Path) -> None:
    node = NodeSpec("a", 0, "1.2.3.4")
    for groups in ("", "/sys/fs/cgroup/hatchway-x"):
        config = AgentConfig(str(tmp_path), [node], "https://10.96.0.1:443", control_groups=groups)
        assert configz.configuration(config, node, 10250)["kubeletconfig"]["cgroupsPerQOS"] is bool(groups)
