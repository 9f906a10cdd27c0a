"""Keeps the registry's rows up to date with CustomResourceDefinitions. Imports `registry/` and `storage/`."""
