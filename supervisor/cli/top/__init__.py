"""`preforkd top`: a live view of a running daemon in a terminal, with keys.

Pure: `view.py` (what is shown), `cells.py`, `table.py`, `frame.py` (how and where), `keys.py` (what a key does).
Acting: `loop.py` turns, `desk.py` asks the daemon, `display.py` owns the terminal. Never reads logs.
"""
