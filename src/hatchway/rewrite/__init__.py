"""Rewriting for web applications under a path prefix: URLs in headers and HTML, cookies. Pure and streaming."""
