"""The differences between two configurations, and what they require. Pure; used by the master's reload.

Workers always get new code and settings: they are replaced in any case. A consumer keeps its connection unless
something changed that the connection, the subscription or the identity of messages is made of; then it finishes what
runs, and a new one takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from supervisor.config.keys import keys_of
from supervisor.config.schema import Config
from supervisor.errors import ConfigError, Problem

S = TypeVar("S", bound=msgspec.Struct)

FIXED = ("state_dir", "runtime_dir", "user", "group")
"""Keys of [daemon] that hold for the daemon's life: its locks, its sockets and the rights it gave up."""

ENV_FILE = "env_file"
"""The key of [daemon] that is reported, too, when the variables in its file have changed."""

RECONNECT = frozenset(
    {
        *("queue", "prefetch", "exclusive", "consumer_priority", "declare", "queue_arguments", "bindings"),
        *("id_header", "transport_headers"),  # a message in flight would come back under another name
    }
)
"""Keys of a pool that need a new consumer; so does everything in [broker], [ledger] and [fleet] but these:"""

REGISTERED = frozenset({"max_timeout", "kill_grace", "on_crash", "max_attempts", "missing_id"})
"""Further ones in a fleet: by these the other hosts decide when no run can go on here, and what follows then."""

_SECTIONS = ("daemon", "log", "ledger", "fleet", "web", "hooks", "broker")
_CHECKED_ONLY = frozenset({"ack_timeout"})


@dataclass(frozen=True)
class Changes:
    """The names of pools that were added and removed; changed keys by pool, and by section. `reconnect`: pools."""

    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    sections: dict[str, list[str]]
    reconnect: frozenset[str]

    def facts(self) -> dict[str, Any]:
        """For the log and the control socket."""
        return {
            "added": self.added,
            "removed": self.removed,
            "changed": {**self.sections, **{f"pools.{name}": keys for name, keys in self.changed.items()}},
            "reconnected": sorted(self.reconnect),
        }


def compare(old: Config, new: Config) -> Changes:
    """What changed. Raises ConfigError for keys that cannot change while the daemon runs."""
    _refuse_fixed(old, new)
    sections = {name: changed_keys(getattr(old, name), getattr(new, name)) for name in _SECTIONS}
    if old.variables != new.variables and ENV_FILE not in sections["daemon"]:
        sections["daemon"].append(ENV_FILE)  # the path is the same, what it has is not
    kept = [name for name in new.pools if name in old.pools]
    changed = {name: changed_keys(old.pools[name], new.pools[name]) for name in kept}
    everywhere = bool(sections["ledger"] or sections["fleet"] or set(sections["broker"]) - _CHECKED_ONLY)
    needs = RECONNECT if new.fleet is None else RECONNECT | REGISTERED
    return Changes(
        added=[name for name in new.pools if name not in old.pools],
        removed=[name for name in old.pools if name not in new.pools],
        changed={name: keys for name, keys in changed.items() if keys},
        sections={name: keys for name, keys in sections.items() if keys},
        reconnect=frozenset(name for name in kept if everywhere or needs.intersection(changed[name])),
    )


def changed_keys(old: S | None, new: S | None) -> list[str]:
    """The keys of one section whose values differ, as users write them; all keys if one of the two has no section."""
    some = new or old
    if some is None:
        return []
    keys = keys_of(type(some)).values()
    return [key.name for key in keys if _value(old, key.field) != _value(new, key.field)]


def _value(section: msgspec.Struct | None, field: str) -> Any:
    return None if section is None else getattr(section, field)


def _refuse_fixed(old: Config, new: Config) -> None:
    problems = [
        Problem(
            f"daemon.{key}",
            repr(getattr(new.daemon, key)),
            f"cannot change while the daemon runs (it is {getattr(old.daemon, key)!r})",
            "`preforkd restart` applies it: stop with the old configuration, start with the new one",
        )
        for key in changed_keys(old.daemon, new.daemon)
        if key in FIXED
    ]
    if problems:
        raise ConfigError(new.source, problems)
