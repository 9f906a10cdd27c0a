"""Applies patches of all three formats to objects. This package imports only the registry's schema."""
