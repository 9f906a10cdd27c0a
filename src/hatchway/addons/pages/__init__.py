"""The common part of add-ons' pages: a server for their files, and shared scripts and styles (`shared/`)."""
