"""The stop of the daemon, and the end of single children while it runs."""
