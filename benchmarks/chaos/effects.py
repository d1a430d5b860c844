"""The effect of every contestant's handler: one line in a file that all of them write alike. Standard library only.

It is imported by preforkd's workers and, in their own environment, by the peers'.
"""

from __future__ import annotations

import json
import os
import time

FILE = "CHAOS_EFFECTS"
HANDLER_S = 0.005


def handle(name: str, told: bool) -> None:
    """Take 5 ms, with the effect in the middle. `told`: whether the handler could see that this may be a repetition."""
    time.sleep(HANDLER_S / 2)
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, json.dumps([name, told]).encode() + b"\n")
    os.close(file)
    time.sleep(HANDLER_S / 2)
