"""PROCESS: imports a pool's handler once, and forks its workers by order of the master; it never runs a handler."""
