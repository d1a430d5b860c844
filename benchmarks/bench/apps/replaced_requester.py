"""Keeps gunicorn's workers busy: `python replaced_requester.py SOCKET PATH CONNECTIONS`, each asks again and again.

A program of its own, so that it does not disturb the clock of the measurement. A connection that its worker's death
has cut off is simply made again.
"""

from __future__ import annotations

import socket
import sys
import threading


def ask(path: str, request: bytes) -> None:
    """One request; the server closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
            sock.sendall(request)
            while sock.recv(4096):
                pass
        except OSError:
            return


def ask_for_ever(path: str, request: bytes) -> None:
    """Until this program is ended."""
    while True:
        ask(path, request)


if __name__ == "__main__":
    to, wanted = sys.argv[1], f"GET {sys.argv[2]} HTTP/1.0\r\n\r\n".encode()
    for _ in range(int(sys.argv[3])):
        threading.Thread(target=ask_for_ever, args=(to, wanted)).start()
