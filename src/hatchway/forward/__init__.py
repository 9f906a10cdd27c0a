"""The forwarder: local ports that lead to services and pods, for as long as it runs.

specs.py          words of the command line and of files (pure)
localports.py     the local ports that they make, by the cluster's objects (pure)
localsockets.py   local sockets
forwarder.py      all forwards of one command: listening, connections, what is known of them
services.py       the forwards of all services of a namespace, which follow them
forwardoutput.py  forwards as JSON, as variables of the environment, as lines (pure)
"""
