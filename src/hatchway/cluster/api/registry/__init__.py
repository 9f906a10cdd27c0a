"""The types: their rows, strategies, printers, schema and validation; imports connect and storage."""
