"""The cluster's name server: the image `hatchway/dns` (`python -m hatchway.addons.dns`).

zone.py              the names that exist, from Services, EndpointSlices and Namespaces; pure
dnsquery.py          parses a query; pure
message.py           makes the answer to a query; pure
server.py            answers queries by UDP and TCP
answercache.py       caches answers about names outside the cluster for a short time
monitoring.py        /health, /ready, /metrics

Behaviour: the specification "Kubernetes DNS-Based Service Discovery" 1.1.0 and, where it is silent, CoreDNS'
`plugin/kubernetes`.
"""
