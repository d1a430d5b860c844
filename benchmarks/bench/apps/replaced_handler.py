"""preforkd's side of replacement and lifecycle: a preloaded library, a word from `init` and from every run."""

from __future__ import annotations

import time

import requests
from stamp import stamp

LIBRARY = requests.__version__


def init():
    """In each new worker: user code runs, but the worker has not said hello to its consumer yet."""
    stamp("init")


def run(message):
    """One message: takes as many seconds as its body says."""
    stamp("begun")
    time.sleep(float(message.body))
    stamp("ended")
