"""An HTTP server on a free port that keeps what is posted to it and answers as the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`answers`: statuses of the next requests, the last one for all further. `location`: where a redirect leads."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.answers = [200]
        self.location = ""
        self.release = threading.Event()
        """Set: a request is answered; cleared: it hangs."""
        self.release.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        """Of the server's root."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(self.path)
                receiver.release.wait(30)
                status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                if status == 200:
                    receiver.posted.append(json.loads(body))
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a test's output is its evidence."""

        return Handler


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A server that runs for a test."""
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.release.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join()
