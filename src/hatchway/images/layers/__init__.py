"""Layers of images: read, checked and unpacked into directories, for containers' file systems."""
