"""Protocol implementations without I/O: they turn bytes into events and back, without sockets, clocks or asyncio."""
