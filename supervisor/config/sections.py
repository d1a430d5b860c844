"""One section of the file, read into its struct of the schema. Problems go to the report; reading always goes on.

A key that is missing or wrong leaves its default in the struct (required ones ""), so that the rules can still be
asked about the rest; the struct is thrown away when the report has problems.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from supervisor.config import schema
from supervisor.config.keys import Key, keys_of
from supervisor.config.report import Place, Report, did_you_mean
from supervisor.config.secrets import read_secret
from supervisor.config.text import NoText

S = TypeVar("S", bound=msgspec.Struct)

_NO_KEYS = {schema.PoolConfig: ("name",), schema.BrokerConfig: ("tls",)}
"""Fields that are not read from a key of the same name."""

_PATHS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    schema.DaemonConfig: ("state_dir", "runtime_dir", "env_file"),
    schema.LogConfig: ("file",),
    schema.TlsConfig: ("ca_file", "cert_file", "key_file"),
    schema.PoolConfig: ("path",),
    schema.WebConfig: ("token_file",),
}

_HOMES: dict[str, type[msgspec.Struct]] = {
    "pools.NAME": schema.PoolConfig,
    "daemon": schema.DaemonConfig,
    "log": schema.LogConfig,
    "broker": schema.BrokerConfig,
    "broker.tls": schema.TlsConfig,
    "ledger": schema.LedgerConfig,
    "fleet": schema.FleetConfig,
    "web": schema.WebConfig,
    "hooks": schema.HooksConfig,
}

_BESIDE = {"url_file": "broker", "webhook_file": "hooks"}
"""The sections of keys that are no field of their struct: it has the content of the file."""


class Sections:
    """Reads sections of one file in `folder`, from which relative paths start.

    `owner`: the uid that a file of secrets may belong to besides root.
    """

    def __init__(self, folder: Path, report: Report, owner: int | None = None) -> None:
        self._folder = folder
        self._report = report
        self._owner = owner

    def read(self, kind: type[S], place: Place, table: Any, **given: Any) -> S:
        """The struct of the section `table` at `place`; `given`: fields without a key in it."""
        found = self.table(place, table)
        keys = {name: key for name, key in keys_of(kind).items() if name not in _NO_KEYS.get(kind, ())}
        for name in [name for name in found or () if name not in keys]:
            hint = home_of(name, kind) or did_you_mean(name, keys)
            self._report.add((*place, name), "there is no such key", hint)
        values = {key.field: self._value(key, place, found) for key in keys.values()}
        for field in _PATHS.get(kind, ()):
            values[field] = self.located((*place, field), values[field])
        return kind(**values, **given)

    def table(self, place: Place, table: Any) -> dict[str, Any] | None:
        """`table` if it is one, else None and a problem."""
        if isinstance(table, dict):
            return table
        self._report.add(place, f"expected a table of keys, got {type(table).__name__}")
        return None

    def _value(self, key: Key, place: Place, table: dict[str, Any] | None) -> Any:
        here = (*place, key.name)
        if table is None:
            pass
        elif key.name in table and not self._report.wrong(here):
            try:
                return self._read(key, here, table[key.name])
            except ValueError as error:
                self._report.add(here, str(error))
        elif key.required and not self._report.wrong(here):
            self._report.add(here, "this key is required")
        return "" if key.required else key.default

    def _read(self, key: Key, here: Place, value: Any) -> Any:
        special = {"bindings": self._bindings, "environment": self._environment}.get(key.name)
        return special(here, value) if special else key.read(value)

    def _bindings(self, here: Place, value: Any) -> tuple[schema.Binding, ...]:
        if not isinstance(value, list):
            raise ValueError('expected a list of tables, such as [{ exchange = "mail", routing_key = "mail.#" }]')
        return tuple(self.read(schema.Binding, (*here, at), item) for at, item in enumerate(value))

    def _environment(self, here: Place, value: Any) -> dict[str, str]:
        for name, text in (self.table(here, value) or {}).items():
            if not isinstance(text, str):
                self._report.add((*here, name), "expected a string", "put quotes around the value")
            elif not name or "=" in name or "\0" in name + text:
                self._report.add((*here, name), "neither name nor value may hold NUL, nor the name =")
        return value if isinstance(value, dict) else {}

    def located(self, here: Place, value: Any) -> Any:
        """The path (or paths) in `value`, made absolute: from the file's folder, `~` expanded; "" and "-" unchanged."""
        if isinstance(value, tuple):
            return tuple(self.located((*here, at), item) for at, item in enumerate(value))
        if value in ("", "-"):
            return value
        if "\0" in value:
            self._report.add(here, "a path holds no NUL")
            return ""
        try:
            return str(self._folder / Path(value).expanduser())
        except RuntimeError:
            self._report.add(here, "the home folder of ~ cannot be found", "write the whole path")
            return value

    def urls_of(self, here: tuple[str, str], instead_of: str, table: dict[str, Any]) -> list[str] | None:
        """The content of the file at the key `here`, the key taken out of its `table`; None where no file is named.

        `instead_of`: the key that must then be absent; "": none.
        """
        file = table.pop(here[1], "")
        if not isinstance(file, str):
            self._report.add(here, "expected a string: the path of a file with the URL")
        elif "://" in file:
            self._report.add(here, "expected the path of a file with the URL, got a URL", "write the URL into a file")
        elif file and instead_of and instead_of in table:
            self._report.add(here, f"{instead_of} is given, too", "keep one of the two")
        elif file:
            return self._urls_in(here, Path(self.located(here, file)))
        return None

    def _urls_in(self, here: Place, path: Path) -> list[str]:
        try:
            lines = read_secret(path, self._owner).splitlines()
        except NoText as error:
            self._report.add(here, error.reason, error.hint)
            return []
        urls = [line.strip() for line in lines if line.strip()]
        if not urls:
            self._report.add(here, f"{path} contains no URL", "write one URL a line")
        return urls


def home_of(name: str, kind: type[msgspec.Struct] | None = None) -> str:
    """Which section a key belongs in, if it is a known one in the wrong place: in the section `kind`, or in none."""
    homes = [_BESIDE[name]] if name in _BESIDE else []
    homes += [section for section, other in _HOMES.items() if other is not kind and name in keys_of(other)]
    return f"it belongs in [{homes[0]}]" if homes else ""
