"""Keeps the registry's rows equal to the stored CustomResourceDefinitions. It imports registry and storage."""
