"""Objects like those of real clusters, and the findings that `hatchway exposure` must report.

Names and addresses are made up. The expected findings follow from documents of the provider or the controller, which
`source` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from hatchway.kube.api import Object

# Many cases share these objects: a Service "web" with pods.
_WEB = """
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec:
  nodeName: node-1
  containers: [{name: c, image: any, ports: [{name: http, containerPort: 8080, protocol: TCP}]}]
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
_CLUSTER_IP = f"""{_WEB}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  type: ClusterIP
  clusterIP: 10.96.12.7
  clusterIPs: [10.96.12.7]
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http, protocol: TCP}}]
status: {{loadBalancer: {{}}}}
"""


def _node(**addresses: str) -> str:
    listed = "".join(f"\n  - {{type: {kind}, address: '{address}'}}" for kind, address in addresses.items())
    return f"""
---
apiVersion: v1
kind: Node
metadata: {{name: node-1}}
status:
  nodeInfo: {{containerRuntimeVersion: "containerd://2.0.5"}}
  addresses:{listed}
  - {{type: Hostname, address: node-1}}
"""


def _balanced(status: str, annotations: str = "{}", spec: str = "", node_port: int = 0) -> str:
    """Return the Service "web" as a load balancer. status: the entry that the provider wrote."""
    allocated = f", nodePort: {node_port}" if node_port else ""
    return f"""{_WEB}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations: {annotations}
  finalizers: [service.kubernetes.io/load-balancer-cleanup]
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: {"true" if node_port else "false"}
  clusterIP: 10.96.12.7
  clusterIPs: [10.96.12.7]
  externalTrafficPolicy: Cluster
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  selector: {{app: web}}
  sessionAffinity: None
  ports: [{{name: http, port: 80, targetPort: http, protocol: TCP{allocated}}}]
  {spec}
status: {{loadBalancer: {{ingress: [{status}]}}}}
"""


def _ingress(
    status: str, *, of_class: str = "nginx", annotations: str = "{}", labels: str = "{}", tls: str = "[]"
) -> str:
    return f"""{_CLUSTER_IP}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  annotations: {annotations}
  labels: {labels}
spec:
  ingressClassName: {of_class}
  rules:
  - host: shop.example
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}]}}
  tls: {tls}
status: {{loadBalancer: {{ingress: [{status}]}}}}
"""


def _class(name: str, controller: str) -> str:
    return f"""
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec: {{controller: {controller}}}
"""


def _gateway(of_class: str, address: str, listener: str = "{name: http, port: 80, protocol: HTTP}") -> str:
    return f"""{_CLUSTER_IP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: door, namespace: shop}}
spec: {{gatewayClassName: {of_class}, listeners: [{listener}]}}
status: {{addresses: [{address}], conditions: [{{type: Programmed, status: "True"}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  hostnames: [shop.example]
  parentRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: door}}]
  rules: [{{backendRefs: [{{group: "", kind: Service, name: web, port: 80, weight: 1}}]}}]
status:
  parents:
  - parentRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: door}}
    controllerName: example.com/gateway
    conditions: [{{type: Accepted, status: "True"}}, {{type: ResolvedRefs, status: "True"}}]
"""


def _traefik(service: str = "", *, status: str = "{ip: 203.0.113.5}") -> str:
    """Return Traefik as its Helm chart installs it, with the IngressRoute that leads to its dashboard."""
    return f"""{_CLUSTER_IP}{_class("traefik", "traefik.io/ingress-controller")}
---
apiVersion: v1
kind: Pod
metadata: {{name: traefik-0, namespace: kube-system, labels: {{app.kubernetes.io/name: traefik}}}}
spec:
  nodeName: node-1
  containers:
  - name: traefik
    ports:
    - {{name: metrics, containerPort: 9100, protocol: TCP}}
    - {{name: traefik, containerPort: 8080, protocol: TCP}}
    - {{name: web, containerPort: 8000, protocol: TCP}}
    - {{name: websecure, containerPort: 8443, protocol: TCP}}
status: {{phase: Running}}
---
apiVersion: v1
kind: Service
metadata: {{name: traefik, namespace: kube-system, labels: {{app.kubernetes.io/name: traefik}}}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.30.1
  selector: {{app.kubernetes.io/name: traefik}}
  ports:
  - {{name: web, port: 80, targetPort: web, nodePort: 31080, protocol: TCP}}
  - {{name: websecure, port: 443, targetPort: websecure, nodePort: 31443, protocol: TCP}}
  {service}
status: {{loadBalancer: {{ingress: [{status}]}}}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: traefik-dashboard, namespace: kube-system}}
spec:
  entryPoints: [traefik]
  routes:
  - {{kind: Rule, match: PathPrefix(`/dashboard`) || PathPrefix(`/api`), services: [{{kind: TraefikService, name: api@internal}}]}}
"""


def _route(points: str, *, match: str = "Host(`shop.example`)", more: str = "", spec: str = "", to: str = "") -> str:
    to = to or "{kind: Service, name: web, port: http}"
    return f"""
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: web, namespace: shop}}
spec:
  entryPoints: {points}
  routes: [{{kind: Rule, match: "{match}", services: [{to}]{more}}}]
  {spec}
"""


def _middleware(name: str, spec: str) -> str:
    return f"""
---
apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"""


@dataclass(frozen=True)
class Recorded:
    """Some objects of one real cluster.

    ways: expected ways in: object -> (reach, rules of the findings).
    """

    name: str
    source: str
    text: str
    ways: dict[str, tuple[str, ...]]

    def objects(self) -> list[Object]:
        found: list[Any] = [one for one in yaml.safe_load_all(self.text) if one]
        spaces = sorted({one["metadata"]["namespace"] for one in found if "namespace" in one["metadata"]})
        namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in spaces]
        return [*found, *namespaces]


_LBC = "kubernetes-sigs.github.io/aws-load-balancer-controller, guide/service/annotations"
_CLOUD_AWS = "kubernetes/cloud-provider-aws, docs/service_controller.md"
_CLOUD_AZURE = "kubernetes-sigs/cloud-provider-azure, docs on annotations of Services"
_SERVICE_LB = "docs.k3s.io, networking/networking-services; pkg/cloudprovider/servicelb.go"
_IN_AWS = "service.beta.kubernetes.io/aws-load-balancer"
_IN_AZURE = "service.beta.kubernetes.io/azure"
_OPEN = ("internet", "open-load-balancer")
_PRIVATE = ("private",)
_EKS_NODE = _node(InternalIP="192.168.14.3", ExternalIP="203.0.113.40", InternalDNS="ip-192-168-14-3.ec2.internal")
_PRIVATE_NODE = _node(InternalIP="10.0.0.4")

CASES = [
    Recorded(
        "EKS: a classic load balancer",
        _CLOUD_AWS,
        _balanced("{hostname: a0f5c1d2e3b4-1234567890.eu-west-1.elb.amazonaws.com}", node_port=31234) + _EKS_NODE,
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "EKS: an internal classic load balancer, with the old value of the annotation",
        _CLOUD_AWS,
        _balanced(
            "{hostname: internal-a0f5c1d2e3b4-1234567890.eu-west-1.elb.amazonaws.com}",
            f'{{{_IN_AWS}-internal: "0.0.0.0/0"}}',
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "EKS: an annotation that came after the load balancer, which keeps its scheme",
        _CLOUD_AWS,
        _balanced("{hostname: a0f5c1d2e3b4-1234567890.eu-west-1.elb.amazonaws.com}", f'{{{_IN_AWS}-internal: "true"}}'),
        {"service/web LoadBalancer": ("internet", "internal-but-public")},
    ),
    Recorded(
        "EKS: a network load balancer of the old controller, which is public",
        _CLOUD_AWS,
        _balanced(
            "{hostname: a0f5c1d2e3b4-0123456789abcdef.elb.eu-west-1.amazonaws.com}",
            f'{{{_IN_AWS}-type: nlb, {_IN_AWS}-internal: "false"}}',
        ),
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "EKS: any value but false means internal",
        _CLOUD_AWS,
        _balanced(
            "{hostname: a0f5c1d2e3b4-0123456789abcdef.elb.eu-west-1.amazonaws.com}",
            f'{{{_IN_AWS}-type: nlb, {_IN_AWS}-internal: "yes"}}',
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "EKS: AWS Load Balancer Controller makes internal ones by default",
        _LBC,
        _balanced(
            "{hostname: k8s-shop-web-0123456789.elb.eu-west-1.amazonaws.com}",
            f"{{{_IN_AWS}-type: external, {_IN_AWS}-nlb-target-type: ip}}",
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "EKS: AWS Load Balancer Controller, internet-facing",
        _LBC,
        _balanced(
            "{hostname: k8s-shop-web-0123456789.elb.eu-west-1.amazonaws.com}",
            f"{{{_IN_AWS}-type: external, {_IN_AWS}-scheme: internet-facing}}",
            "loadBalancerClass: service.k8s.aws/nlb",
        ),
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "EKS: AWS Load Balancer Controller and the deprecated annotation",
        _LBC,
        _balanced(
            "{hostname: k8s-shop-web-0123456789.elb.eu-west-1.amazonaws.com}",
            f'{{{_IN_AWS}-type: nlb-ip, {_IN_AWS}-internal: "false"}}',
        ),
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "EKS Auto Mode: internal by default",
        "docs.aws.amazon.com, EKS Auto Mode, auto-configure-nlb",
        _balanced(
            "{hostname: k8s-shop-web-0123456789.elb.eu-west-1.amazonaws.com}",
            spec="loadBalancerClass: eks.amazonaws.com/nlb",
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "AKS: a public load balancer",
        _CLOUD_AZURE,
        _balanced(
            "{ip: 203.0.113.20}", f'{{{_IN_AZURE}-load-balancer-health-probe-request-path: "/"}}', node_port=31234
        )
        + _PRIVATE_NODE,
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "AKS: an internal load balancer",
        _CLOUD_AZURE,
        _balanced("{ip: 10.224.0.7, ipMode: VIP}", f'{{{_IN_AZURE}-load-balancer-internal: "true"}}'),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "AKS: ranges in Azure's own annotation",
        _CLOUD_AZURE,
        _balanced("{ip: 203.0.113.20}", f'{{{_IN_AZURE}-allowed-ip-ranges: "198.51.100.0/28, 192.0.2.1/32"}}'),
        {"service/web LoadBalancer": ("restricted",)},
    ),
    Recorded(
        "AKS: only the front doors of Azure",
        _CLOUD_AZURE,
        _balanced("{ip: 203.0.113.20}", f'{{{_IN_AZURE}-allowed-service-tags: "AzureFrontDoor.Backend"}}'),
        {"service/web LoadBalancer": ("restricted",)},
    ),
    Recorded(
        "AKS: the service tag of everybody",
        _CLOUD_AZURE,
        _balanced("{ip: 203.0.113.20}", f'{{{_IN_AZURE}-allowed-service-tags: "Internet"}}'),
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "GKE: an external and an internal load balancer, on nodes with an empty external address",
        "cloud.google.com/kubernetes-engine, Service parameters",
        _balanced(
            "{ip: 10.128.0.9}",
            '{networking.gke.io/load-balancer-type: Internal, cloud.google.com/neg: "{}"}',
            node_port=31234,
        )
        + _node(InternalIP="10.128.0.2", ExternalIP=""),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "OKE: an internal network load balancer",
        "docs.oracle.com, Summary of Annotations for Load Balancers and Network Load Balancers",
        _balanced(
            "{hostname: nlb.shop.example}",
            '{oci.oraclecloud.com/load-balancer-type: nlb, oci-network-load-balancer.oraclecloud.com/internal: "true"}',
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "DigitalOcean: rules for clients",
        "docs.digitalocean.com, configure-load-balancers",
        _balanced(
            "{ip: 203.0.113.20}",
            '{service.beta.kubernetes.io/do-loadbalancer-allow-rules: "cidr:198.51.100.0/28,ip:192.0.2.1"}',
        ),
        {"service/web LoadBalancer": ("restricted",)},
    ),
    Recorded(
        "Linode: the list of a firewall",
        "linode/linode-cloud-controller-manager, docs on firewalls",
        _balanced(
            "{hostname: 203-0-113-20.ip.linodeusercontent.com, ip: 203.0.113.20}",
            "{service.beta.kubernetes.io/linode-loadbalancer-firewall-acl:"
            ' \'{"allowList": {"ipv4": ["192.0.2.0/28"], "ipv6": []}}\'}',
        ),
        {"service/web LoadBalancer": ("restricted",)},
    ),
    Recorded(
        "MetalLB: addresses of the local network and of the Internet",
        "metallb.io, usage",
        _balanced(
            "{ip: 192.168.1.240, ipMode: VIP}, {ip: 203.0.113.20, ipMode: VIP}",
            "{metallb.io/ip-allocated-from-pool: pool}",
        ),
        {"service/web LoadBalancer": _OPEN},
    ),
    Recorded(
        "Docker Desktop: load balancers of one machine",
        "docs.docker.com, Kubernetes",
        _balanced("{hostname: localhost}"),
        {"service/web LoadBalancer": ("machine",)},
    ),
    Recorded(
        "Tailscale: a load balancer in a private network",
        "tailscale.com/kb, Kubernetes operator, cluster ingress",
        _balanced(
            "{hostname: shop-web.tail1234.ts.net}, {ip: 100.101.102.103}, {ip: 'fd7a:115c:a1e0::1'}",
            spec="loadBalancerClass: tailscale",
        ),
        {"service/web LoadBalancer": _PRIVATE},
    ),
    Recorded(
        "Tailscale: an Ingress in the private network",
        "tailscale.com/kb, Kubernetes operator, cluster ingress",
        _ingress(
            "{hostname: web.tail1234.ts.net, ports: [{port: 443, protocol: TCP}]}",
            of_class="tailscale",
            tls="[{hosts: [web]}]",
        )
        + _class("tailscale", "tailscale.com/ts-ingress"),
        {"ingress/web Ingress": _PRIVATE},
    ),
    Recorded(
        "Tailscale: an Ingress that is a funnel",
        "tailscale.com/kb, Kubernetes operator, cluster ingress, funnel",
        _ingress(
            "{hostname: web.tail1234.ts.net}",
            of_class="tailscale",
            annotations='{tailscale.com/funnel: "true"}',
            tls="[{hosts: [shop.example]}]",
        ),
        {"ingress/web Ingress": ("internet",)},
    ),
    Recorded(
        "K3s: ServiceLB opens the ports of a Service by pods of its own",
        _SERVICE_LB,
        _balanced("{ip: 203.0.113.40}", spec="loadBalancerSourceRanges: [192.0.2.0/28]")
        + _node(InternalIP="10.0.0.4", ExternalIP="203.0.113.40")
        + """
---
apiVersion: v1
kind: Pod
metadata:
  name: svclb-web-1a2b3c4d-x7k2q
  namespace: kube-system
  labels:
    app: svclb-web-1a2b3c4d
    svccontroller.k3s.cattle.io/svcname: web
    svccontroller.k3s.cattle.io/svcnamespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: svclb-web-1a2b3c4d, uid: u, controller: true}]
spec:
  nodeName: node-1
  priorityClassName: system-node-critical
  containers: [{name: lb-tcp-80, ports: [{name: lb-tcp-80, containerPort: 80, hostPort: 80, protocol: TCP}]}]
status: {phase: Running}
""",
        {"service/web LoadBalancer": ("restricted",)},
    ),
    Recorded(
        "kind: ingress-nginx publishes localhost, and is open at the nodes",
        "kubernetes/ingress-nginx, deploy/static/provider/kind (--publish-status-address=localhost)",
        _ingress("{hostname: localhost}")
        + _class("nginx", "k8s.io/ingress-nginx")
        + _node(InternalIP="172.18.0.2")
        + """
---
apiVersion: v1
kind: Pod
metadata: {name: ingress-nginx-controller-0, namespace: ingress-nginx, labels: {app.kubernetes.io/name: ingress-nginx}}
spec:
  nodeName: node-1
  containers:
  - name: controller
    ports:
    - {name: http, containerPort: 80, hostPort: 80, protocol: TCP}
    - {name: https, containerPort: 443, hostPort: 443, protocol: TCP}
    - {name: webhook, containerPort: 8443, protocol: TCP}
status: {phase: Running}
""",
        {"ingress/web Ingress": _PRIVATE, "pod/ingress-nginx-controller-0 hostPort": _PRIVATE},
    ),
    Recorded(
        "bare metal: ingress-nginx behind node ports publishes its cluster address",
        "kubernetes/ingress-nginx, internal/ingress/status (statusAddressFromService)",
        _ingress("{ip: 10.96.40.2}", tls="[{hosts: [shop.example], secretName: t}]")
        + _class("nginx", "k8s.io/ingress-nginx")
        + _node(InternalIP="10.0.0.4", ExternalIP="203.0.113.40")
        + """
---
apiVersion: v1
kind: Service
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  type: NodePort
  clusterIP: 10.96.40.2
  clusterIPs: [10.96.40.2]
  selector: {app.kubernetes.io/name: ingress-nginx}
  ports:
  - {name: http, port: 80, targetPort: http, nodePort: 30080, protocol: TCP}
  - {name: https, port: 443, targetPort: https, nodePort: 30443, protocol: TCP}
---
apiVersion: v1
kind: Pod
metadata: {name: ingress-nginx-controller-0, namespace: ingress-nginx, labels: {app.kubernetes.io/name: ingress-nginx}}
spec:
  nodeName: node-1
  containers: [{name: controller, ports: [{name: http, containerPort: 80}, {name: https, containerPort: 443}]}]
status: {phase: Running}
""",
        {
            "ingress/web Ingress": ("internet",),
            "service/ingress-nginx-controller NodePort": ("internet", "open-node-port"),
        },
    ),
    Recorded(
        "AKS: the annotations of ingress-nginx in the add-on for application routing",
        "learn.microsoft.com, AKS, app-routing-nginx-configuration",
        _ingress(
            "{ip: 203.0.113.20}",
            of_class="webapprouting.kubernetes.azure.com",
            annotations='{nginx.ingress.kubernetes.io/whitelist-source-range: "192.0.2.0/28"}',
        )
        + _class("webapprouting.kubernetes.azure.com", "webapprouting.kubernetes.azure.com/nginx"),
        {"ingress/web Ingress": ("restricted",)},
    ),
    Recorded(
        "NGINX's own controller does not know the annotations of ingress-nginx",
        "docs.nginx.com, NGINX Ingress Controller, annotations (nginx.org/...)",
        _ingress(
            "{ip: 203.0.113.20}",
            annotations='{nginx.ingress.kubernetes.io/whitelist-source-range: "192.0.2.0/28"}',
            tls="[{hosts: [shop.example], secretName: t}]",
        )
        + _class("nginx", "nginx.org/ingress-controller"),
        {"ingress/web Ingress": ("internet", "ineffective-allowlist")},
    ),
    Recorded(
        "ALB: TLS by listeners, a redirect as a backend",
        "kubernetes-sigs.github.io/aws-load-balancer-controller, guide/ingress/annotations and cert_discovery",
        _ingress(
            "{hostname: k8s-shop-web-0123456789-1234567890.eu-west-1.elb.amazonaws.com}",
            of_class="alb",
            annotations="{alb.ingress.kubernetes.io/scheme: internet-facing, alb.ingress.kubernetes.io/listen-ports:"
            ' \'[{"HTTP": 80}, {"HTTPS": 443}]\', alb.ingress.kubernetes.io/auth-type: none,'
            ' alb.ingress.kubernetes.io/actions.ssl-redirect: \'{"Type": "redirect", "RedirectConfig": {}}\'}',
        ).replace(
            "paths: [",
            "paths: [{path: /, pathType: Prefix, backend: {service: {name: ssl-redirect, port:"
            " {name: use-annotation}}}}, ",
        )
        + _class("alb", "ingress.k8s.aws/alb"),
        {"ingress/web Ingress": ("internet",)},
    ),
    Recorded(
        "ALB: `tls` of an Ingress alone does not make a listener with TLS",
        "kubernetes-sigs.github.io/aws-load-balancer-controller, guide/ingress/cert_discovery",
        _ingress(
            "{hostname: k8s-shop-web-0123456789-1234567890.eu-west-1.elb.amazonaws.com}",
            of_class="alb",
            annotations="{alb.ingress.kubernetes.io/scheme: internet-facing}",
            tls="[{hosts: [shop.example]}]",
        )
        + _class("alb", "ingress.k8s.aws/alb"),
        {"ingress/web Ingress": ("internet", "no-tls")},
    ),
    Recorded(
        "ALB: security groups take the place of ranges; the scheme is that of the class's parameters",
        "kubernetes-sigs.github.io/aws-load-balancer-controller, guide/ingress/annotations (inbound-cidrs)",
        _ingress(
            "{hostname: k8s-shop-web-0123456789-1234567890.eu-west-1.elb.amazonaws.com}",
            of_class="alb",
            annotations="{alb.ingress.kubernetes.io/inbound-cidrs: 192.0.2.0/28,"
            " alb.ingress.kubernetes.io/security-groups: sg-1, alb.ingress.kubernetes.io/certificate-arn: 'arn:aws:acm:x'}",
        )
        + _class("alb", "ingress.k8s.aws/alb"),
        {"ingress/web Ingress": ("internet", "ineffective-allowlist")},
    ),
    Recorded(
        "cert-manager: a challenge of ACME is without TLS, on purpose",
        "cert-manager.io, HTTP01; pkg/issuer/acme/http",
        _ingress("{ip: 203.0.113.20}", labels='{acme.cert-manager.io/http01-solver: "true"}')
        + _class("nginx", "k8s.io/ingress-nginx")
        + _node(InternalIP="10.0.0.4", ExternalIP="203.0.113.40")
        + """
---
apiVersion: v1
kind: Service
metadata:
  name: cm-acme-http-solver-x7k2q
  namespace: shop
  labels: {acme.cert-manager.io/http01-solver: "true"}
spec:
  type: NodePort
  clusterIP: 10.96.12.8
  selector: {app: web}
  ports: [{name: http, port: 8089, targetPort: 8089, nodePort: 31891, protocol: TCP}]
""",
        {"ingress/web Ingress": ("internet",), "service/cm-acme-http-solver-x7k2q NodePort": ("internet",)},
    ),
    Recorded(
        "kube-prometheus: node exporters in the nodes' networks",
        "prometheus-operator/kube-prometheus, manifests/nodeExporter-daemonset.yaml",
        _node(InternalIP="10.0.0.4", ExternalIP="203.0.113.40")
        + """
---
apiVersion: v1
kind: Pod
metadata:
  name: node-exporter-x7k2q
  namespace: monitoring
  labels: {app.kubernetes.io/name: node-exporter}
  ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: node-exporter, uid: u, controller: true}]
spec:
  nodeName: node-1
  hostNetwork: true
  hostPID: true
  priorityClassName: system-cluster-critical
  containers:
  - {name: node-exporter, args: ["--web.listen-address=127.0.0.1:9101"]}
  - {name: kube-rbac-proxy, ports: [{name: https, containerPort: 9100, hostPort: 9100, protocol: TCP}]}
status: {phase: Running}
""",
        {"daemonset/node-exporter hostNetwork": ("internet", "sensitive-port")},
    ),
    Recorded(
        "Istio: a gateway inside the cluster publishes its name",
        "istio.io, Gateway API; pilot/pkg/config/kube/gateway (service-type ClusterIP)",
        _gateway("istio", "{type: Hostname, value: door-istio.shop.svc.cluster.local}"),
        {"gateway/door Gateway": ("nobody",), "httproute/web route": ("nobody",)},
    ),
    Recorded(
        "Istio: a waypoint has a cluster address",
        "istio.io, ambient, waypoints",
        _gateway("istio-waypoint", "{type: IPAddress, value: 10.96.77.1}", "{name: mesh, port: 15008, protocol: HBONE}")
        + """
---
apiVersion: v1
kind: Service
metadata: {name: waypoint, namespace: shop}
spec:
  type: ClusterIP
  clusterIP: 10.96.77.1
  selector: {gateway.networking.k8s.io/gateway-name: waypoint}
  ports: [{name: status-port, port: 15021}, {name: mesh, port: 15008}]
""",
        {"gateway/door Gateway": ("nobody",)},
    ),
    Recorded(
        "Istio: a gateway behind an internal load balancer of AWS",
        f"istio.io, Gateway API (automated deployment); {_LBC}",
        _gateway("istio", "{type: Hostname, value: k8s-shop-dooristi-01234.elb.eu-west-1.amazonaws.com}")
        + f"""
---
apiVersion: v1
kind: Service
metadata: {{name: door-istio, namespace: shop, annotations: {{{_IN_AWS}-scheme: internal}}}}
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  clusterIP: 10.96.77.2
  selector: {{app: web}}
  ports: [{{name: status-port, port: 15021}}, {{name: http, port: 80, targetPort: 80}}]
status: {{loadBalancer: {{ingress: [{{hostname: k8s-shop-dooristi-01234.elb.eu-west-1.amazonaws.com}}]}}}}
""",
        {
            "gateway/door Gateway": _PRIVATE,
            "httproute/web route": _PRIVATE,
            "service/door-istio LoadBalancer": _PRIVATE,
        },
    ),
    Recorded(
        "Cilium: the Service of a Gateway has no selector, and an endpoint that is no pod",
        "docs.cilium.io, Gateway API; operator/pkg/model/translation/gateway-api",
        _gateway("cilium", "{type: IPAddress, value: 203.0.113.60}")
        + """
---
apiVersion: v1
kind: Service
metadata: {name: cilium-gateway-door, namespace: shop, labels: {io.cilium.gateway/owning-gateway: door}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.77.3
  ports: [{name: port-80, port: 80, targetPort: 80, nodePort: 31999, protocol: TCP}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.60, ipMode: VIP}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: cilium-gateway-door-abcde
  namespace: shop
  labels: {kubernetes.io/service-name: cilium-gateway-door}
addressType: IPv4
endpoints: [{addresses: [192.192.192.192], conditions: {ready: true}}]
ports: [{port: 9999}]
""",
        {
            "gateway/door Gateway": ("internet",),
            "httproute/web route": ("internet", "no-tls"),
            "service/cilium-gateway-door LoadBalancer": ("internet",),
        },
    ),
    Recorded(
        "Traefik in K3s: the dashboard's entry point is not published, a route with TLS is fine",
        "doc.traefik.io, Kubernetes CRD; k3s, manifests/traefik.yaml",
        _traefik() + _route("[websecure]", spec="tls: {}"),
        {
            "service/traefik LoadBalancer": _OPEN,
            "ingressroute/web IngressRoute": ("internet",),
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: a route without TLS, and one without entry points",
        "doc.traefik.io, IngressRoute (entryPoints: default all)",
        _traefik(status="{ip: 10.0.0.9}") + _route("[web]"),
        {
            "service/traefik LoadBalancer": _PRIVATE,
            "ingressroute/web IngressRoute": _PRIVATE,
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: a route for everybody on all entry points, without TLS on one of them",
        "doc.traefik.io, IngressRoute (entryPoints: default all)",
        _traefik() + _route("[]", match="PathPrefix(`/`)"),
        {
            "service/traefik LoadBalancer": _OPEN,
            "ingressroute/web IngressRoute": ("internet", "no-tls"),
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: a route that only redirects to HTTPS",
        "doc.traefik.io, middlewares, redirectScheme",
        _traefik()
        + _route("[web]", more=", middlewares: [{name: secure}]")
        + _middleware("secure", "{redirectScheme: {scheme: https, permanent: true}}"),
        {
            "service/traefik LoadBalancer": _OPEN,
            "ingressroute/web IngressRoute": ("nobody",),
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: the dashboard for everybody",
        "doc.traefik.io, dashboard (secure mode)",
        _traefik() + _route("[websecure]", to="{kind: TraefikService, name: api@internal}"),
        {
            "service/traefik LoadBalancer": _OPEN,
            "ingressroute/web IngressRoute": ("internet", "sensitive-port"),
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: the dashboard behind a chain with a login and a list of clients",
        "doc.traefik.io, dashboard, middlewares: chain, basicAuth, ipAllowList",
        _traefik()
        + _route("[websecure]", to="{kind: TraefikService, name: api@internal}", more=", middlewares: [{name: all}]")
        + _middleware("all", "{chain: {middlewares: [{name: login}, {name: office}, {name: all}]}}")
        + _middleware("login", "{basicAuth: {secret: users}}")
        + _middleware("office", "{ipAllowList: {sourceRange: [192.0.2.0/28]}}"),
        {
            "service/traefik LoadBalancer": _OPEN,
            "ingressroute/web IngressRoute": ("restricted",),
            "ingressroute/traefik-dashboard IngressRoute": ("nobody",),
        },
    ),
    Recorded(
        "Traefik: an Ingress whose annotations choose the secure entry point and middlewares",
        "doc.traefik.io, Kubernetes Ingress, annotations",
        _ingress(
            "{ip: 203.0.113.20}",
            of_class="traefik",
            annotations="{traefik.ingress.kubernetes.io/router.entrypoints: websecure,"
            " traefik.ingress.kubernetes.io/router.middlewares: shop-office@kubernetescrd}",
        )
        + _class("traefik", "traefik.io/ingress-controller")
        + _middleware("office", "{ipAllowList: {sourceRange: [192.0.2.0/28]}}")
        + _route("[web]"),
        {"ingress/web Ingress": ("restricted",), "ingressroute/web IngressRoute": ("unknown",)},
    ),
    Recorded(
        "Contour: Envoy at the nodes and behind a load balancer",
        "projectcontour/contour, examples/contour/03-envoy.yaml",
        _node(InternalIP="10.0.0.4")
        + """
---
apiVersion: v1
kind: Pod
metadata:
  name: envoy-x7k2q
  namespace: projectcontour
  labels: {app: envoy}
  ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: envoy, uid: u, controller: true}]
spec:
  nodeName: node-1
  containers:
  - {name: shutdown-manager}
  - name: envoy
    ports:
    - {name: http, containerPort: 8080, hostPort: 80, protocol: TCP}
    - {name: https, containerPort: 8443, hostPort: 443, protocol: TCP}
    - {name: metrics, containerPort: 8002, hostPort: 8002, protocol: TCP}
status: {phase: Running}
---
apiVersion: v1
kind: Service
metadata:
  name: envoy
  namespace: projectcontour
  annotations: {service.beta.kubernetes.io/aws-load-balancer-backend-protocol: tcp}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31212
  clusterIP: 10.96.50.1
  selector: {app: envoy}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 31080, protocol: TCP}
  - {name: https, port: 443, targetPort: 8443, nodePort: 31443, protocol: TCP}
status: {loadBalancer: {ingress: [{hostname: a0f5c1d2e3b4-1234567890.eu-west-1.elb.amazonaws.com}]}}
""",
        {"service/envoy LoadBalancer": _OPEN, "daemonset/envoy hostPort": _PRIVATE},
    ),
]
