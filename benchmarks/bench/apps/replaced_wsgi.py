"""gunicorn's application: the same library; the path of a request says how many seconds it takes: `/0.02`."""

from __future__ import annotations

import time

import requests
from stamp import stamp

LIBRARY = requests.__version__


def application(environ, start_response):
    """One request."""
    stamp("begun")
    time.sleep(float(environ["PATH_INFO"].strip("/")))
    start_response("204 No Content", [])
    stamp("ended")
    return []
