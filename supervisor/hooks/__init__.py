"""The hooks process: tells commands and a URL of what has happened. Told by the master; nothing ever waits for it."""
