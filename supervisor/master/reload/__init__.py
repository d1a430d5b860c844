"""New settings, new code and new sizes of pools while the daemon runs."""
