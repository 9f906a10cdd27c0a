"""Streams of pods: exec, attach and port-forward, as a kubelet serves them over WebSocket and SPDY."""
