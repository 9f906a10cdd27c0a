"""Container images: their names and contents, registries, the store on this machine, and unpacked layers."""
