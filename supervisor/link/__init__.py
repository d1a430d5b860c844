"""Frames and the channel between preforkd's own processes: master, forkserver, consumer, worker."""
