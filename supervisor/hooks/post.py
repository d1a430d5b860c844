"""`python -m supervisor.hooks.post`: posts one event to the webhook. Run by the hooks process, which limits its time.

Reads `{"url", "event", "timeout_s"}` from its input. Exit status 0: accepted (2xx); 75: try again later (no
connection, 408, 425, 429, 5xx); 1: failed. Writes the reason to stderr, never the URL. Redirects are not followed: the
request would lose its body, or reach a host that is not configured.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

import supervisor

_LATER = frozenset({408, 425, 429})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Returns a redirect as the answer."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> None:
        """Make no further request."""


def post(url: str, event: str, timeout_s: float) -> tuple[int, str]:
    """Post the JSON text `event` to `url`; returns (exit status, reason of a failure)."""
    headers = {"Content-Type": "application/json", "User-Agent": f"preforkd/{supervisor.__version__}"}
    request = urllib.request.Request(url, event.encode(errors="replace"), headers, method="POST")
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=timeout_s):
            return os.EX_OK, ""
    except urllib.error.HTTPError as error:
        later = error.code >= 500 or error.code in _LATER
        return os.EX_TEMPFAIL if later else 1, f"the answer was {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return os.EX_TEMPFAIL, f"no connection: {error.reason}"
    except (OSError, HTTPException) as error:
        return os.EX_TEMPFAIL, f"no answer: {type(error).__name__} {error}"


if __name__ == "__main__":
    order = json.load(sys.stdin)
    status, reason = post(order["url"], order["event"], order["timeout_s"])
    sys.stderr.write(reason)
    sys.exit(status)
