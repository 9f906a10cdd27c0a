"""Translates HTTP requests to operations, and results to responses. Imports every other part of the API server."""
