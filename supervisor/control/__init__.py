"""The control socket: how the command line talks to a running daemon. JSON lines over a Unix socket."""

SOCKET_NAME = "control.sock"
"""The socket's name in the runtime directory. Here, because a probe must not pay for the protocol's imports."""
