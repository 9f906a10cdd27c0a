"""Hatchway: reach what runs inside a Kubernetes cluster from outside it."""

__version__ = "0.1.0"
