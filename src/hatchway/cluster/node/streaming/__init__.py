"""Serves exec, attach and port-forward over WebSocket and SPDY, as a kubelet does."""
