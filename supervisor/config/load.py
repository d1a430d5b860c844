"""From a TOML file to a `Config`, or to a ConfigError with every problem of the file.

Read by the command line before the daemon starts, and by the master when it reloads. Reading changes nothing; what
only the machine or the broker can tell (does the handler import, does the queue exist) is left to `preforkd check`.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from supervisor.config import schema
from supervisor.config.cross_checks import apply_cross_checks, fitted
from supervisor.config.location import SEARCHED, VARIABLE, named
from supervisor.config.report import Place, Report, did_you_mean
from supervisor.config.rules import apply_rules
from supervisor.config.sections import Sections, home_of
from supervisor.config.text import NoText, read_text
from supervisor.errors import ConfigError, Problem
from supervisor.system.trust import changeable_by

_SECTIONS = ("daemon", "log", "broker", "ledger", "pools", "web", "hooks")
_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TOML_PLACE = re.compile(r"(.*) \(at (.*)\)")


def load(path: str | None) -> schema.Config:
    """The configuration in `path`, or in the first file found of `SEARCHED` and $PREFORKD_CONFIG (None).

    Raises ConfigError: no such file, not readable, writable by all users, not TOML, or with wrong content.
    """
    source = _find(path, os.environ)
    return interpret(_parsed(source, _text(source)), source, os.environ)


def load_daemon(path: str | None) -> schema.DaemonConfig:
    """Only [daemon] of the configuration that `load` would find; no other section is read, no variable is needed.

    Raises ConfigError: as `load`, for the file and this section.
    """
    source = _find(path, os.environ)
    tree = {"daemon": _parsed(source, _text(source)).get("daemon", {})}
    report = Report(tree)
    daemon = Sections(source.parent, report).read(
        schema.DaemonConfig, ("daemon",), _filled_in(tree, os.environ, report)["daemon"]
    )
    apply_rules(daemon, ("daemon",), report)
    if report.problems:
        raise ConfigError(str(source), report.problems)
    return daemon


def interpret(tree: dict[str, Any], source: Path, environment: Mapping[str, str]) -> schema.Config:
    """The configuration in `tree`, the parsed file `source`; `environment` has the values of `${VAR}`.

    Raises ConfigError with every problem.
    """
    report = Report(tree)
    config = _read(_filled_in(tree, environment, report), source, report)
    _check(config, report)
    if report.problems:
        raise ConfigError(str(source), report.problems)
    return config


def check(config: schema.Config) -> None:
    """The rules of the file for a configuration that was changed since. Raises ConfigError with every problem."""
    report = Report({})
    _check(config, report)
    if report.problems:
        raise ConfigError(config.source, report.problems)


# ---- the file -----------------------------------------------------------------------------------------------------


def _find(path: str | None, environment: Mapping[str, str]) -> Path:
    """The whole path of the file. It has to be Unicode: frames to children, log and status are UTF-8."""
    found = _whole(_named(path, environment))
    try:
        str(found).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(found).decode(errors="backslashreplace")
        raise _refused(shown, "file", "its path is not UTF-8", "rename the folder or the file") from None
    return found


def _whole(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except FileNotFoundError:
        hint = "change to another folder, or give the whole path of the file"
        raise _refused(str(path), "file", "the current folder was removed", hint) from None
    except RuntimeError:
        raise _refused(str(path), "file", "the home folder of ~ cannot be found", "write the whole path") from None


def _named(path: str | None, environment: Mapping[str, str]) -> Path:
    if found := named(path, environment):
        return Path(found)
    looked = ", ".join(["--config", f"${VARIABLE}", *SEARCHED])
    raise _refused("configuration", "no file found", f"looked at {looked}", "`preforkd init` writes one")


def _text(source: Path) -> str:
    try:
        text, found = read_text(source)
    except FileNotFoundError:
        raise _refused(str(source), "file", "there is no such file", "`preforkd init` writes one") from None
    except NoText as error:
        reason = f"{error.reason}, as TOML must be" if error.place.startswith("byte") else error.reason
        raise _refused(str(source), error.place, reason, error.hint) from None
    _refuse_other_writers(source, found)
    return text


def _refuse_other_writers(source: Path, found: os.stat_result) -> None:
    """Raise if the wrong users can write the file: its writer chooses the code that runs, and its user. For root,
    users who can replace the file count as its writers."""
    if found.st_mode & stat.S_IWOTH:
        raise _refused(str(source), "rights", "all users may write to it", f"chmod o-w {source}")
    if os.geteuid() != 0:
        return
    if found.st_uid != 0:
        reason = f"it belongs to uid {found.st_uid}, which could choose what root runs"
        raise _refused(str(source), "owner", reason, f"chown root {source}, or run as that user")
    if others := changeable_by(source):
        reason = f"{others} could change or replace it, and so choose what root runs"
        raise _refused(
            str(source), "rights", reason, "keep it in a directory that only root may write to, such as /etc/preforkd"
        )


def _parsed(source: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _TOML_PLACE.fullmatch(str(error))
        reason, place = match.groups() if match else (str(error), "syntax")
        raise _refused(str(source), place, f"not TOML: {reason}") from None
    except RecursionError:
        raise _refused(str(source), "syntax", "nested too deeply") from None


def _refused(source: str, place: str, reason: str, hint: str = "") -> ConfigError:
    return ConfigError(source, [Problem(place, "", reason, hint)])


# ---- variables ----------------------------------------------------------------------------------------------------


def _filled_in(value: Any, environment: Mapping[str, str], report: Report, place: Place = ()) -> Any:
    """`value` (parsed TOML of any depth) with `${VAR}` filled in from `environment`; problems go to the report.

    `$${VAR}` stands for the text `${VAR}` itself; a lone `$` is nothing special. Keys are never filled in. An unset
    variable is a problem, not an empty string: a daemon must not start with half a password. `${VAR:-text}` names the
    text for a variable that is unset or empty, as in a shell.
    """
    if isinstance(value, dict):
        return {key: _filled_in(item, environment, report, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, environment, report, (*place, at)) for at, item in enumerate(value)]
    return _filled_in_text(value, environment, report, place) if isinstance(value, str) else value


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _filled_in_text(text: str, environment: Mapping[str, str], report: Report, place: Place) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped, inner = match.groups()
        if escaped:
            return match[0][1:]
        name, instead, default = inner.partition(":-")
        if not _VARIABLE_NAME.fullmatch(name):
            report.add(place, f'"{name}" in ${{...}} is no variable name', "write $${ for a plain ${")
        elif instead and _is_unicode(environment.get(name, "")):
            return environment.get(name) or default
        elif name not in environment:
            report.add(place, f"the environment variable {name} is not set", "write $${ for a plain ${")
        elif not _is_unicode(environment[name]):
            report.add(place, f"the environment variable {name} is not UTF-8")
        return environment.get(name, "")

    return _VARIABLE.sub(replacement, text)


# ---- what it says -------------------------------------------------------------------------------------------------


def _read(tree: dict[str, Any], source: Path, report: Report) -> schema.Config:
    for name, value in tree.items():
        if name not in _SECTIONS and isinstance(value, dict):
            report.add((name,), "there is no such section", did_you_mean(name, _SECTIONS))
        elif name not in _SECTIONS:
            report.add((name,), "there is no such key outside of the sections", home_of(name))
    sections = Sections(source.parent, report, _daemon_uid(tree))
    pools = sections.table(("pools",), tree.get("pools", {})) or {}
    broker = _read_broker(sections, tree.get("broker", {}))
    return schema.Config(
        source=str(source),
        daemon=sections.read(schema.DaemonConfig, ("daemon",), tree.get("daemon", {})),
        log=sections.read(schema.LogConfig, ("log",), tree.get("log", {})),
        broker=broker,
        ledger=sections.read(schema.LedgerConfig, ("ledger",), tree.get("ledger", {})),
        pools={name: _read_pool(name, table, broker, sections) for name, table in pools.items()},
        web=sections.read(schema.WebConfig, ("web",), tree.get("web", {})),
        hooks=_read_hooks(sections, tree.get("hooks", {})),
    )


def _read_pool(name: str, table: Any, broker: schema.BrokerConfig, sections: Sections) -> schema.PoolConfig:
    pool = sections.read(schema.PoolConfig, ("pools", name), table, name=name)
    if not isinstance(table, dict):
        return pool
    if "max_timeout" not in table:  # its default does not limit a longer timeout
        pool = msgspec.structs.replace(pool, max_timeout_s=max(pool.max_timeout_s, pool.timeout_s))
    return pool if "prefetch" in table else fitted(pool, broker)


def _daemon_uid(tree: dict[str, Any]) -> int | None:
    """The uid of `user` in [daemon]; None where there is none."""
    daemon = tree.get("daemon")
    name = daemon.get("user") if isinstance(daemon, dict) else None
    try:
        return pwd.getpwnam(name).pw_uid if isinstance(name, str) and name else None
    except (KeyError, ValueError):  # no user of that name: the start says so
        return None


def _read_broker(sections: Sections, table: Any) -> schema.BrokerConfig:
    broker = dict(sections.table(("broker",), table) or {})
    tls = sections.read(schema.TlsConfig, ("broker", "tls"), broker.pop("tls", {}))
    urls = sections.urls_of(("broker", "url_file"), "url", broker)
    if urls is not None:
        broker["url"] = urls or list(schema.BrokerConfig().urls)
    return sections.read(schema.BrokerConfig, ("broker",), broker, tls=tls)


def _read_hooks(sections: Sections, table: Any) -> schema.HooksConfig:
    hooks = dict(sections.table(("hooks",), table) or {})
    urls = sections.urls_of(("hooks", "webhook_file"), "webhook", hooks)
    if urls is not None:
        hooks["webhook"] = urls[0] if urls else ""
    return sections.read(schema.HooksConfig, ("hooks",), hooks)


def _check(config: schema.Config, report: Report) -> None:
    for name in ("daemon", "log", "broker", "ledger", "web", "hooks"):
        apply_rules(getattr(config, name), (name,), report)
    apply_rules(config.broker.tls, ("broker", "tls"), report)
    for name, pool in config.pools.items():
        apply_rules(pool, ("pools", name), report)
        for at, binding in enumerate(pool.bindings):
            apply_rules(binding, ("pools", name, "bindings", at), report)
    apply_cross_checks(config, report)
