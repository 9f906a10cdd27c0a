"""The forwarder: local ports that lead to services and pods, for as long as it runs.

specs.py          parses the forwards on the command line and in files (pure)
localports.py     chooses local ports for them, from the cluster's objects (pure)
localsockets.py   opens local sockets
forwarder.py      all forwards of one command: their listeners, their connections, their state
datagrams.py      the forwards of UDP ports
services.py       the forwards of all services of a namespace, as the services change
forwardoutput.py  writes forwards as JSON, as environment variables, as lines (pure)
"""
