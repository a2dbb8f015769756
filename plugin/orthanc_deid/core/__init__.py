"""The engine: bytes and a plan in, bytes and a report out. Knows no server, database, clock or network."""
