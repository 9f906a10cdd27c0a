"""Translates HTTP requests to operations, and results to responses. It imports all other rooms."""
