"""Serves the types of CustomResourceDefinitions: their rows follow the stored definitions."""
