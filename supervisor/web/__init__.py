"""The web page, its HTTP API and `/metrics`: an optional child of the daemon, and a client of its control socket."""
