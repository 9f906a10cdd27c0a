"""A proxy on this machine for names and addresses of a cluster: SOCKS 5 and HTTP, by any route for byte streams."""
