"""What makes a web application work under a path prefix: URLs in headers and HTML, cookies. Pure and streaming."""
