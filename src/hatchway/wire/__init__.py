"""Protocols as pure state: bytes in, events and bytes out; no sockets, no clocks, no asyncio."""
