"""Prometheus' HTTP API (`web/api/v1` of Prometheus 2.42)."""
