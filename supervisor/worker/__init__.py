"""PROCESS: runs the handler, one message at a time, under its limits. No broker, no ledger; it marks its slot."""
