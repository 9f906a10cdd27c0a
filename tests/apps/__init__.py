"""Real web applications in a real browser, directly and through the door. One file per application."""
