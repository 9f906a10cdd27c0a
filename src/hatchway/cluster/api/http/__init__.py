"""Translates HTTP requests to operations, and results to responses. This package imports all other rooms of `api/`."""
