"""Translates HTTP requests to operations, and results to responses. May import every other part of the API server."""
