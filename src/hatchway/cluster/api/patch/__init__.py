"""Applies patches of all three formats to objects. It imports the registry's schema."""
