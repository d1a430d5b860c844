"""What `preforkd check` says about web page and hooks: extras, the token's file, commands, the webhook's URL."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from supervisor.cli.finding import Finding, Level
from supervisor.config.rules import is_loopback
from supervisor.config.schema import Config, DaemonConfig, HooksConfig, WebConfig
from supervisor.errors import StateError
from supervisor.extras import missing
from supervisor.logs.redaction import without_path
from supervisor.master.host.privileges import account
from supervisor.web.token_file import TokenFile


def about_sidecars(config: Config) -> Iterator[Finding]:
    """Nothing where both are off."""
    for problem in missing(config):
        yield Finding(Level.ERROR, problem.path, f"{problem.reason} ({problem.hint})", os.EX_CONFIG)
    if config.web.listen:
        yield from _about_web(config.web, config.daemon)
    if config.hooks.wanted:
        yield from _about_hooks(config.hooks)


def _about_web(web: WebConfig, daemon: DaemonConfig) -> Iterator[Finding]:
    if not web.token_file:
        yield Finding(Level.OK, "web.listen", f"{web.listen}, read only: without token_file there are no actions")
        return
    try:
        user = account(daemon)
        TokenFile(Path(web.token_file), user.uid if user else None)
    except StateError as error:
        yield Finding(Level.ERROR, "web.token_file", str(error), os.EX_CONFIG)
    else:
        yield Finding(Level.OK, "web.listen", f"{web.listen}, actions with the token in {web.token_file}")


def _about_hooks(hooks: HooksConfig) -> Iterator[Finding]:
    for key in ("on_exit", "on_hold", "on_dead"):
        if command := getattr(hooks, key):
            yield _about_command(key, shlex.split(command)[0])
    if hooks.webhook:
        yield _about_webhook(hooks.webhook)


def _about_command(key: str, program: str) -> Finding:
    found = shutil.which(program)
    if found:
        return Finding(Level.OK, f"hooks.{key}", found)
    text = f"there is no program {program} that uid {os.geteuid()} may run; install it, or give its whole path"
    return Finding(Level.ERROR, f"hooks.{key}", text, os.EX_CONFIG)


def _about_webhook(url: str) -> Finding:
    parts = urlsplit(url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return Finding(Level.OK, "hooks.webhook", f"events are posted to {without_path(url)}")
    text = f"{without_path(url)}: others can read the posted events on their way; use https"
    return Finding(Level.WARNING, "hooks.webhook", text)
