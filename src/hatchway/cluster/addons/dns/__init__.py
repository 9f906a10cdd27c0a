"""The cluster's name server: the image `hatchway/dns` (`python -m hatchway.cluster.addons.dns`).

zone.py      what names exist, from Services, EndpointSlices and Namespaces; pure
message.py   from a query's bytes to an answer's; pure
server.py    UDP and TCP sockets
upstream.py  names outside the cluster
http.py      /health, /ready, /metrics

Behaviour: the specification "Kubernetes DNS-Based Service Discovery" 1.1.0 and, where it is silent, CoreDNS'
`plugin/kubernetes`.
"""
