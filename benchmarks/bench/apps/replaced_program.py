"""A worker under supervisord or circus: a program of its own, which imports the same library and then waits."""

from __future__ import annotations

import signal

import requests
from stamp import stamp

LIBRARY = requests.__version__

if __name__ == "__main__":
    stamp("ready")
    while True:
        signal.pause()
