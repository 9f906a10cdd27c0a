"""Applies patches of all three kinds to objects; imports the registry's schema."""
