"""One pool as the master has it: child specs, slots, channels, starts and restarts."""
