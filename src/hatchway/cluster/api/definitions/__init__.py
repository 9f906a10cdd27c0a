"""Serves the types of CustomResourceDefinitions: keeps the registry's rows up to date with the stored definitions."""
