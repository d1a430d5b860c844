"""Checks that the extras which a configuration needs are installed, before a start and a reload.

It looks for their modules without importing them: the master must not load its children's libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from supervisor import __version__
from supervisor.config.schema import Config
from supervisor.errors import ConfigError, Problem

_OF_WEB = ("starlette", "uvicorn", "prometheus_client")
_OF_FLEET = ("psycopg",)


def install_hint(extra: str) -> str:
    """How the packages of `extra` ("web", "metrics", "otel", "fleet") are installed: from a checkout or a wheel."""
    wheel = f"preforkd-{__version__}-py3-none-any.whl"
    return f"pip install '.[{extra}]' in a checkout of preforkd, or pip install './{wheel}[{extra}]'"


def missing(config: Config) -> list[Problem]:
    """The settings that need an extra which is not installed."""
    return list(_missing(config))


def _missing(config: Config) -> Iterator[Problem]:
    if config.web.listen and (absent := _absent(_OF_WEB)):
        yield Problem("web.listen", f'"{config.web.listen}"', _needs(absent), f'{install_hint("web")}; or listen = ""')
    if config.fleet is not None and (absent := _absent(_OF_FLEET)):
        yield Problem("fleet", "", _needs(absent), f"{install_hint('fleet')}; or remove [fleet]")


def _absent(names: tuple[str, ...]) -> str:
    return ", ".join(name for name in names if find_spec(name) is None)


def _needs(absent: str) -> str:
    return f"needs an extra of preforkd: there is no {absent}"


def refuse_missing(config: Config) -> Config:
    """The configuration itself. Raises ConfigError if it needs an extra that is not installed."""
    if problems := missing(config):
        raise ConfigError(config.source, problems)
    return config
