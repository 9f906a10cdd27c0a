"""The ingress controller: serves the Ingresses of the class `hatchway` by host and path, over HTTP and HTTPS.

__main__.py       the process: two listeners, the readiness probe
controller.py     watches the cluster, and updates routes, certificates, statuses and Events
ingressrules.py   parses an Ingress into rules: hosts, paths, backends, certificates. Pure
hostroutes.py     the table of all rules: finds conflicts, and the backend for a host and a path. Pure
backends.py       finds the endpoints of backends, from Services and EndpointSlices
ingressrouter.py  the routing function: forwards requests, sets `X-Forwarded-*`
answers.py        makes the error pages
certificates.py   makes TLS contexts from Secrets, and chooses one by host name
reports.py        writes Events about Ingresses, and the addresses into their statuses
"""
