"""Log lines: their events, their way out of each process, and what is kept out of them."""
