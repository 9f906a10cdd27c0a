"""The resource types: rows, strategies, printers, schemas, validation. Imports `connect/` and `storage/`."""
