"""`preforkd status --probe live|ready`: one question to the daemon, one line, exit code 0 or 1.

A platform asks every few seconds. So `quick` answers before click and the protocol are imported, and gives anything
unusual (no daemon, a configuration with variables, other arguments) back to the command, which words the error.
The rules are the daemon's (control/probes.py). No answer is a no: the master does not turn, or is not there.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

from supervisor.cli.printable import shown
from supervisor.config.location import RUNTIME_DIR, plain_runtime_dir
from supervisor.control import SOCKET_NAME

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.cli.invocation import Invocation

KINDS = ("live", "ready")
"""Those of control/probes.py."""

TIMEOUT_S = 4
"""How long the daemon has for its answer; below the `timeoutSeconds` of etc/kubernetes, so that the line is read."""

_NO = 1
_READ_BYTES = 64 * 1024
_TIMEVAL = struct.pack("ll", TIMEOUT_S, 0)  # struct timeval of socket(7)


def quick(argv: Sequence[str]) -> int | None:
    """Run the probe that `argv` asks for and give back its exit code; None where the command itself has to."""
    config, kind = _understood(argv)
    directory = plain_runtime_dir(config) if kind else ""
    if not directory:
        return None
    try:
        return ask(directory, kind)
    except (OSError, ValueError):  # the command finds out why
        return None


def probe(invocation: Invocation, kind: str) -> int:
    """The same for any arguments and any configuration. Raises ConfigError where no daemon answers and the file is
    wrong, ControlError where another program listens.

    A file that has become wrong is no reason to restart a daemon that runs: it is asked at the default place.
    """
    from supervisor.errors import ConfigError, ControlError  # loaded late: see the head of this file

    try:
        directory, mistake = str(invocation.runtime_dir), None
    except ConfigError as error:
        directory, mistake = RUNTIME_DIR, error
    try:
        return ask(directory, kind)
    except ValueError as error:
        raise ControlError(f"the answer at {directory}/{SOCKET_NAME} is not preforkd's ({error})") from error
    except OSError as error:
        if mistake is not None:
            raise mistake from error
    try:
        invocation.connect().close()
    except ControlError as error:
        return _say(kind, str(error))
    return _say(kind, "the daemon closed the connection before its answer; try again")


def ask(directory: str, kind: str) -> int:
    """Ask the daemon of this runtime `directory`, print the line, and give back the exit code.

    Raises OSError where nothing can be asked, ValueError for an answer that is none.
    """
    try:
        answer = _answer(os.path.join(directory, SOCKET_NAME), kind)
    except BlockingIOError:  # the kernel's word for the end of SO_RCVTIMEO and SO_SNDTIMEO
        return _say(kind, f"the daemon did not answer within {TIMEOUT_S} s: it hangs, or was stopped (SIGSTOP)")
    return _say(kind, _why(answer, kind))


def _answer(path: str, kind: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        for limit in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            client.setsockopt(socket.SOL_SOCKET, limit, _TIMEVAL)
        client.connect(path)
        client.sendall(f'{{"verb": "probe", "kind": "{kind}"}}\n'.encode())
        data = b""
        while not data.endswith(b"\n"):
            piece = client.recv(_READ_BYTES)
            if not piece:
                raise ConnectionError
            data += piece
        return data


def _why(answer: bytes, kind: str) -> str:
    """Why not, by the daemon's answer; "" for a yes. Raises ValueError."""
    import json  # loaded late: a daemon that does not answer needs none

    try:
        read = json.loads(answer)
        if read["ok"]:
            return "; ".join(read["result"]["why"])
        return "" if kind == "live" else str(read["error"])  # a refusal is a sign of life
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _understood(argv: Sequence[str]) -> tuple[str | None, str]:
    """--config and --probe of a plain `[--config FILE] status --probe KIND`; no kind for other arguments."""
    given: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        name, has_value, value = word.partition("=")
        if name in ("--config", "--probe") and name not in given:
            given[name] = value if has_value else next(words, "")
        elif word == "status" and word not in given:
            given[word] = word
        else:
            return None, ""
    kind = given.get("--probe", "") if "status" in given else ""
    return given.get("--config"), kind if kind in KINDS else ""


def _say(kind: str, why: str) -> int:
    line = shown(f"not {kind}: {why}" if why else kind)
    with suppress(OSError):  # the exit code is the answer; its line may have no reader
        os.write(1, f"{line}\n".encode())
    return _NO if why else 0
