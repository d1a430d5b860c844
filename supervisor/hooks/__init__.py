"""The hooks process: runs commands and calls a URL for events from the master. No other process waits for it."""
