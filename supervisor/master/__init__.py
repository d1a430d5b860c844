"""PROCESS: the master; it owns all other processes. `run.py` is the way in, `loop.py` the loop."""
