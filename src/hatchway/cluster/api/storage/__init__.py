"""Stores objects on disk and in memory, and the history that watches read. Imports no other room of the API server."""
