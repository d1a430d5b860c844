"""Checks that the extras which a configuration needs are installed, before a start and a reload.

It looks for their modules without importing them: the master must not load its children's libraries.
"""

from __future__ import annotations

from importlib.util import find_spec

from supervisor import __version__
from supervisor.config.schema import Config
from supervisor.errors import ConfigError, Problem

_OF_WEB = ("starlette", "uvicorn", "prometheus_client")


def install_hint(extra: str) -> str:
    """How the packages of `extra` ("web", "metrics", "otel") are installed: from a checkout or a wheel."""
    wheel = f"preforkd-{__version__}-py3-none-any.whl"
    return f"pip install '.[{extra}]' in a checkout of preforkd, or pip install './{wheel}[{extra}]'"


def missing(config: Config) -> list[Problem]:
    """The settings that need an extra which is not installed."""
    absent = [name for name in _OF_WEB if find_spec(name) is None] if config.web.listen else []
    if not absent:
        return []
    reason = f"needs an extra of preforkd: there is no {', '.join(absent)}"
    hint = f'{install_hint("web")}; or listen = ""'
    return [Problem("web.listen", f'"{config.web.listen}"', reason, hint)]


def refuse_missing(config: Config) -> Config:
    """The configuration itself. Raises ConfigError if it needs an extra that is not installed."""
    if problems := missing(config):
        raise ConfigError(config.source, problems)
    return config
