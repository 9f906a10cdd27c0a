"""Rewrites URLs and cookies of web applications that are served under a path prefix. Pure and streaming."""
