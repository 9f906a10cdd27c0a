"""Field ownership: `metadata.managedFields` of every write, and server-side apply. Pure: values in, values out."""
