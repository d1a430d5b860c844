"""Sends a code for a login. How late a message may come is no matter of the handler: see max_wait in preforkd.toml."""

from supervisor import Message


def send(message: Message) -> None:
    """Stand in for an SMS. The body is `user code`."""
    user, code = message.text().split()
    print(f"to {user}: your code is {code}")
