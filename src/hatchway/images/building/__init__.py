"""Images made of directories and of Python wheels, without running anything."""
