"""A Containerfile as data: its stages, their steps, and what the image says of itself. Pure.

The instructions that the project uses, as https://docs.docker.com/reference/dockerfile/ has them; any other is refused,
so that none passes a test unseen.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Copy:
    """COPY. `stage`: of --from, "" for the context; `owner`: of --chown."""

    sources: tuple[str, ...]
    target: str
    stage: str = ""
    owner: str = "0:0"


@dataclass(frozen=True)
class Run:
    """RUN, in the folder and with the user and variables that hold at that line."""

    command: str
    user: str
    folder: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Make:
    """WORKDIR: the folder is made where it is missing."""

    folder: str


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str = ""
    steps: list[Copy | Run | Make] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    stop_signal: str = "SIGTERM"
    healthcheck: list[str] = field(default_factory=list)


def parse(text: str, bases: dict[str, Stage] | None = None, **arguments: str) -> list[Stage]:
    """The stages of a Containerfile, in order. `bases`: images that a FROM may go on with, by name; `arguments`: of
    --build-arg.

    Raises ValueError for an instruction that is not known here.
    """
    stages: list[Stage] = []
    for line in _lines(text):
        word, _blank, rest = line.partition(" ")
        if word == "FROM":
            stages.append(_from(rest.strip(), bases or {}))
            stages[-1].given = arguments
        elif word in _INSTRUCTIONS:
            _INSTRUCTIONS[word](stages[-1], rest.strip())
        else:
            raise ValueError(f"{word}: this instruction is not known to the tests")
    return stages


def _lines(text: str) -> list[str]:
    """The instructions, continued lines joined, comments left out, also those between continued lines."""
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines()


def _from(rest: str, bases: dict[str, Stage]) -> Stage:
    base, _as, name = re.fullmatch(r"(\S+)(\s+AS\s+(\S+))?", rest).groups()  # type: ignore[union-attr]
    former = bases.get(base)
    if former is None:
        return Stage(base, name or "")
    said = {key: value for key, value in vars(former).items() if key not in ("base", "name", "steps", "arguments")}
    return Stage(base, name or "", **{key: _own(value) for key, value in said.items()})


def _own(value: object) -> object:
    return value.copy() if isinstance(value, dict | list) else value


def _exec_form(rest: str) -> list[str]:
    """The words of the JSON form; the shell form is a shell's."""
    return [str(word) for word in json.loads(rest)] if rest.startswith("[") else ["/bin/sh", "-c", rest]


def _env(stage: Stage, rest: str) -> None:
    for word in shlex.split(rest):
        name, _equals, value = word.partition("=")
        stage.environment[name] = value


def _arg(stage: Stage, rest: str) -> None:
    name, _equals, default = rest.partition("=")
    stage.arguments[name] = stage.given.get(name, *shlex.split(default))


def _copy(stage: Stage, rest: str) -> None:
    words = shlex.split(rest)
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = (word for word in words if not word.startswith("--"))
    if set(flags) - {"from", "chown"}:
        raise ValueError(f"COPY {rest}: this flag is not known to the tests")
    place = target if target.startswith("/") else f"{stage.folder.rstrip('/')}/{target}"
    stage.steps.append(Copy(tuple(sources), place, flags.get("from", ""), flags.get("chown", "0:0")))


def _run(stage: Stage, rest: str) -> None:
    stage.steps.append(Run(rest, stage.user, stage.folder, stage.environment | stage.arguments))


def _workdir(stage: Stage, rest: str) -> None:
    stage.folder = rest
    stage.steps.append(Make(rest))


def _healthcheck(stage: Stage, rest: str) -> None:
    stage.healthcheck = _exec_form(rest.partition("CMD ")[2])


_INSTRUCTIONS = {
    "COPY": _copy,
    "RUN": _run,
    "WORKDIR": _workdir,
    "ENV": _env,
    "ARG": _arg,
    "HEALTHCHECK": _healthcheck,
    "USER": lambda stage, rest: setattr(stage, "user", rest),
    "ENTRYPOINT": lambda stage, rest: setattr(stage, "entrypoint", _exec_form(rest)),
    "CMD": lambda stage, rest: setattr(stage, "command", _exec_form(rest)),
    "STOPSIGNAL": lambda stage, rest: setattr(stage, "stop_signal", rest),
    "VOLUME": lambda stage, rest: stage.volumes.extend(shlex.split(rest)),
    "EXPOSE": lambda stage, rest: stage.ports.extend(map(int, rest.split())),
}
