"""The connection from the private network to other networks, through this machine's network.

tools.py          the programs that connect a network namespace to this machine's network: pasta, slirp4netns
egressgateway.py  the namespace between the router and such a program: routes, masquerading, refused addresses
egresskeeper.py   the process that starts and restarts this program
netmessages.py    reads the kernel's messages about interfaces and routes
egresslink.py     the control plane's side: serves DNS, and learns whether other networks can be reached
hostnames.py      answers pods' DNS queries with this machine's name servers
"""
