"""From a TOML file to a `Config`, or to a ConfigError with every problem of the file.

Read by the command line before the daemon starts, and by the master when it reloads. Reading changes nothing; what
only the machine or the broker can tell (does the handler import, does the queue exist) is left to `preforkd check`.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.config import schema
from supervisor.config.content import daemon_uid, read, read_fleet
from supervisor.config.cross_checks import apply_cross_checks
from supervisor.config.location import SEARCHED, VARIABLE, named
from supervisor.config.report import Report
from supervisor.config.rules import apply_rules
from supervisor.config.sections import S, Sections
from supervisor.config.text import NoText, read_text
from supervisor.config.variables import Variables, filled_in
from supervisor.errors import ConfigError, Problem
from supervisor.system.trust import changeable_by

_NOT_FOR_MESSAGES = ("web", "hooks", "fleet")
_ENV_FILE = ("daemon", "env_file")
_SOME_BROKER = "amqp://localhost"
_FILES = (
    *("broker.url_file", "broker.tls.ca_file", "broker.tls.cert_file", "broker.tls.key_file"),
    *("web.token_file", "hooks.webhook_file", "fleet.url_file"),
)
"""The keys of files that the daemon reads."""

_CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Set by systemd for a service alone (LoadCredential= in systemd.exec(5))."""

_TOML_PLACE = re.compile(r"(.*) \(at (.*)\)")


def load(path: str | None, env_file: str | None = None) -> schema.Config:
    """The configuration in `path`, or in the first file found of `SEARCHED` and $PREFORKD_CONFIG (None).

    `env_file`: as for `interpret`. Raises ConfigError: no such file, not readable, writable by all users, not TOML, or
    with wrong content.
    """
    source = _find(path, os.environ)
    return interpret(_parsed(source, _text(source)), source, os.environ, env_file)


def load_without_sidecars(path: str | None, env_file: str | None = None) -> schema.Config:
    """The configuration as `load` reads it, but without [web], [hooks] and [fleet].

    Their variables and files need not be there.

    Raises ConfigError as `load`.
    """
    source = _find(path, os.environ)
    return interpret(_without_sidecars(source), source, os.environ, env_file)


def load_without_secrets(path: str | None, env_file: str | None = None) -> schema.Config:
    """The configuration as `load_without_sidecars` reads it, but with another broker's URL.

    The variables and files of secrets need not be there: a service has its own. Raises ConfigError as `load`.
    """
    source = _find(path, os.environ)
    tree = _without_sidecars(source)
    broker = _table(tree, ["broker"])
    urls = [broker.pop(key) for key in ("url", "url_file") if key in broker]
    if urls not in ([], ["embedded:"]):
        broker["url"] = _SOME_BROKER
    return interpret(tree, source, os.environ, env_file)


def _without_sidecars(source: Path) -> dict[str, Any]:
    return {name: table for name, table in _parsed(source, _text(source)).items() if name not in _NOT_FOR_MESSAGES}


def load_daemon(
    path: str | None, env_file: str | None = None, keys: Collection[str] | None = None
) -> schema.DaemonConfig:
    """Only [daemon] of the configuration that `load` would find: nothing else need be right, no other variable be set.

    `keys`: the only keys that are read, the others have their defaults; None: all. `env_file`: as for `interpret`, read
    only if a variable is needed that the environment does not have. Raises ConfigError: as `load`, for the file and
    these keys.
    """
    return _load_section(schema.DaemonConfig, "daemon", path, env_file, keys)


def load_log(path: str | None, env_file: str | None = None) -> schema.LogConfig:
    """Only [log]; as `load_daemon`."""
    return _load_section(schema.LogConfig, "log", path, env_file)


def load_fleet(path: str | None, env_file: str | None = None, url_file: str | None = None) -> schema.FleetConfig:
    """Only [fleet]; as `load_daemon`. `url_file`: the whole path of a file to be read instead of the one it names.

    Raises ConfigError, also where there is no such section.
    """
    source = _find(path, os.environ)
    tree = _parsed(source, _text(source))
    if "fleet" not in tree:
        raise _refused(str(source), "fleet", "there is no such section", "docs/fleet.md tells how a fleet begins")
    given = {"url_file": url_file} if url_file else {}
    tables = {"daemon": _only((), tree.get("daemon", {})), "fleet": _with(tree["fleet"], given)}
    report = Report(tables)
    filled, _variables = _filled(tables, source, os.environ, env_file, report)
    section = read_fleet(Sections(source.parent, report, daemon_uid(tree)), filled["fleet"], report)
    apply_rules(section, ("fleet",), report)
    _raise_problems(source, report)
    return section


def _with(table: Any, values: dict[str, str]) -> Any:
    return {**table, **values} if isinstance(table, dict) else table


def _load_section(
    kind: type[S], name: str, path: str | None, env_file: str | None, keys: Collection[str] | None = None
) -> S:
    source = _find(path, os.environ)
    tree = _parsed(source, _text(source))
    tables = {"daemon": _only((), tree.get("daemon", {}))} | {name: _only(keys, tree.get(name, {}))}
    report = Report(tables)
    filled, _variables = _filled(tables, source, os.environ, env_file, report)
    section = Sections(source.parent, report).read(kind, (name,), filled[name])
    apply_rules(section, (name,), report)
    _raise_problems(source, report)
    return section


def _only(keys: Collection[str] | None, table: Any) -> Any:
    """The `keys` of a `table` (None: all), and where variables are."""
    if keys is None or not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if key in keys or key == _ENV_FILE[1]}


def load_queues(path: str | None, env_file: str | None = None) -> dict[str, str]:
    """The queue of each pool in the configuration that `load` would find; only their variables are needed.

    `env_file`: as for `load_daemon`. Raises ConfigError: as `load`, for the file and these keys.
    """
    source = _find(path, os.environ)
    tree = _parsed(source, _text(source))
    pools = tree.get("pools", {})
    if isinstance(pools, dict):
        pools = {name: {"queue": pool.get("queue", "")} for name, pool in pools.items() if isinstance(pool, dict)}
    tables = {"daemon": _only((), _table(tree, ["daemon"])), "pools": pools}
    report = Report(tree)
    filled, _variables = _filled(tables, source, os.environ, env_file, report)
    found = Sections(source.parent, report).table(("pools",), filled["pools"]) or {}
    _raise_problems(source, report)
    return {name: str(pool["queue"]) for name, pool in found.items()}


def queues_as_written(source: Path) -> dict[str, str]:
    """The queue of each pool in this file, with its variables. Raises ConfigError: as `load`, for the file."""
    pools = _parsed(source, _text(source)).get("pools", {})
    return {name: pool["queue"] for name, pool in pools.items()}


def interpret(
    tree: dict[str, Any], source: Path, environment: Mapping[str, str], env_file: str | None = None
) -> schema.Config:
    """The configuration in `tree`, the parsed file `source`; `environment` has the values of `${VAR}`.

    `env_file`: the whole path of a file with further values, instead of the key `env_file`. Raises ConfigError with
    every problem.
    """
    report = Report(tree)
    filled, variables = _filled(tree, source, environment, env_file, report)
    variables.report_file(("--env-file",) if env_file else _ENV_FILE, report)
    config = read(filled, source, report, variables.added)
    _check(config, report)
    _raise_problems(source, report)
    return config


def files_in(source: Path, environment: Mapping[str, str], env_file: str | None = None) -> dict[str, Path]:
    """The files that the configuration in `source` names for reading, by key (`broker.url_file`).

    Left out: a path whose variables are not set here, and a credential of systemd, of which the service gets a copy of
    its own. `env_file`: as for `interpret`. Raises ConfigError as `load` does for the file itself.
    """
    tree = _parsed(source, _text(source))
    named = _env_file_of(_table(tree, ["daemon"]), source, environment)[0] if env_file is None else env_file
    found = {"daemon.env_file": Path(named)} if isinstance(named, str) and named else dict[str, Path]()
    variables = Variables(environment, found.get("daemon.env_file"), daemon_uid(tree))
    for key in _FILES:
        *sections, name = key.split(".")
        value = _table(tree, sections).get(name)
        if isinstance(value, str) and value and _CREDENTIALS not in value:
            report = Report(tree)
            path = Sections(source.parent, report).located((key,), filled_in(value, variables, report))
            found |= {} if report.problems else {key: Path(path)}
    return found


def _table(tree: dict[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    """The table of these sections; {} where there is none."""
    for section in sections:
        tree = tree.get(section, {})
        if not isinstance(tree, dict):
            return {}
    return tree


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


def _raise_problems(source: Path, report: Report) -> None:
    if report.problems:
        raise ConfigError(str(source), report.problems)


def _refused(source: str, place: str, reason: str, hint: str = "") -> ConfigError:
    return ConfigError(source, [Problem(place, "", reason, hint)])


# ---- variables ----------------------------------------------------------------------------------------------------


def _filled(
    tree: dict[str, Any], source: Path, environment: Mapping[str, str], env_file: str | None, report: Report
) -> tuple[dict[str, Any], Variables]:
    """`tree` with its variables filled in and with the path of their file, and the variables.

    `env_file`: the path of a file to be read instead of the one in `tree`. In a path that `tree` has, only variables of
    the `environment` are filled in.
    """
    daemon = tree.get("daemon", {})
    if not isinstance(daemon, dict):
        return tree, Variables(environment)
    path, problem = (env_file, None) if env_file else _env_file_of(daemon, source, environment)
    file = Path(path) if path and isinstance(path, str) else None
    variables = Variables(environment, file, daemon_uid(tree), problem)
    others = {key: value for key, value in daemon.items() if key != _ENV_FILE[1]}
    filled: dict[str, Any] = filled_in({**tree, "daemon": others}, variables, report)
    if path != "":
        filled["daemon"][_ENV_FILE[1]] = path
    return filled, variables


def _env_file_of(daemon: dict[str, Any], source: Path, environment: Mapping[str, str]) -> tuple[Any, Problem | None]:
    """The whole path that `env_file` has, or its value where this is no text; and why the path is not known."""
    report = Report({"daemon": daemon})
    path = filled_in(daemon.get(_ENV_FILE[1], ""), Variables(environment), report, _ENV_FILE)
    if isinstance(path, str):
        path = Sections(source.parent, report).located(_ENV_FILE, path)
    return ("", report.problems[0]) if report.problems else (path, None)


def _check(config: schema.Config, report: Report) -> None:
    for name in ("daemon", "log", "broker", "ledger", "web", "hooks"):
        apply_rules(getattr(config, name), (name,), report)
    if config.fleet is not None:
        apply_rules(config.fleet, ("fleet",), report)
    apply_rules(config.broker.tls, ("broker", "tls"), report)
    for name, pool in config.pools.items():
        apply_rules(pool, ("pools", name), report)
        for at, binding in enumerate(pool.bindings):
            apply_rules(binding, ("pools", name, "bindings", at), report)
    apply_cross_checks(config, report)
