"""The kernel and this host: clocks, descriptors, locks, process state, the reactor. Used by all processes."""
