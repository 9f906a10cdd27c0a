"""Pulling images: registries, credentials, downloads and their errors."""
