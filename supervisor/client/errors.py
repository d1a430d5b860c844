"""What can go wrong with a message that a program publishes. Runs in user processes.

Each error says whether the message may be at the broker (`maybe_published`): a program that knows this never loses a
message, and never has one run twice. No text here has a password: the broker is named without its user.
"""

from __future__ import annotations

from supervisor.errors import PreforkdError


class ClientError(PreforkdError):
    """The base of all errors of `supervisor.client`.

    `message_id`: of the message that failed, "" where there is none. `maybe_published`: the broker may have the message
    or not, so publish it again with the same id; False: it is certainly not there. `reason`: the text's middle part,
    without the message and the advice.
    """

    def __init__(
        self, text: str, message_id: str = "", maybe_published: bool = False, reason: str | None = None
    ) -> None:
        super().__init__(text)
        self.message_id = message_id
        self.maybe_published = maybe_published
        self.reason = text if reason is None else reason


class InvalidMessage(ClientError, ValueError):
    """The message cannot be sent like this, to no broker: a property, a header, its size, its delay."""


class BufferFull(ClientError):
    """The client holds as many unconfirmed messages as it may: the broker is away, or slower than the program."""


class Unroutable(ClientError):
    """The broker has no queue for the message."""


class Refused(ClientError):
    """The broker has not taken this message: no such exchange, no right, too large, a full queue."""


class LoginRefused(ClientError):
    """The broker refuses the client: user, password, virtual host, TLS. The client goes on trying."""


class TimedOut(ClientError, TimeoutError):
    """There was no confirm within the time limit of the message."""


class ClientClosed(ClientError):
    """The client was closed: before the message was given to it, or before its confirm."""


class ClientFailed(ClientError):
    """The client's thread could not run, or ended by an error of its own, which is in the log."""


def told(name: str, reason: str, message_id: str, maybe_published: bool) -> str:
    """An error's text: the message's `name`, the `reason`, where the message is and what to do.

    `maybe_published`: as of ClientError.
    """
    if maybe_published:
        where = f"it may be at the broker or not: publish it again with message_id={message_id!r}, and it runs once"
    else:
        where = "it is not at the broker: publish it again once the reason is gone"
    return f"{name}: {for_programs(reason)}; {where}"


def for_programs(text: str) -> str:
    """An error's `text` without the names of preforkd's configuration, which a client does not have."""
    for ours, theirs in _WORDS:
        text = text.replace(ours, theirs)
    return text


_WORDS = (
    ("check the URL and the files of [broker.tls]", "check the client's URL and its `tls`"),
    ("in [broker] url", "in the client's URL"),
    ("[broker] url ", "the URL "),
    ("check [broker.tls] ca_file", "check ca_file of the client's `tls`"),
    ("[broker.tls]", "the client's `tls`"),
    ("broker.tls.", "tls: "),
    ("an exchange that is named in the configuration does not exist", "the exchange does not exist"),
)
