"""The resource types: rows, strategies, printers, schemas, validation. Imports the rooms connect and storage."""
