"""The embedded queue as a broker: one SQLite file, without a server."""
