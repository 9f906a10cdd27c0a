"""Translates HTTP requests to operations, and results to responses. Imports every other room of the API server."""
