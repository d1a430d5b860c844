"""The master's own process: locks, privileges, signals, small files, the log relay."""
