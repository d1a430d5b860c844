"""Log lines: their events, their targets in each process, and the secrets that are removed from them."""
