"""Images in archives and directories: loaded into the store, and saved from it."""
