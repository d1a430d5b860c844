"""The scoreboard: one small mapped file per worker slot, readable after any crash; a shared record, not a queue."""
