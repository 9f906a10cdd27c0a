"""Streams of bytes through an API server: port-forward, exec and attach, at any server, old or new."""
