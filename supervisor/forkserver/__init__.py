"""PROCESS: has a pool's handler imported, once, and forks its workers on the master's word; it never runs a handler."""
