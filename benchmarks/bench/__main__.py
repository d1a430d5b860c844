"""`python -m benchmarks.bench`: every section, one after another; the tables, and all figures as JSON.

Ends with status 1 when a target's `must` was missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import crowd, footprint, growth, lifecycle, loads, profiles, reload, replacement, throughput
from benchmarks.bench.figures import Section, markdown
from benchmarks.bench.machine import facts
from benchmarks.bench.options import Options
from benchmarks.bench.peers import ROOT, install_preforkd, make_environment
from supervisor.system.clock import monotonic_s

SECTIONS: dict[str, Callable[[Options], Section]] = {
    "throughput": throughput.run,
    "loads": loads.run,
    "footprint": footprint.run,
    "crowd": crowd.run,
    "growth": growth.run,
    "replacement": replacement.run,
    "lifecycle": lifecycle.run,
    "reload": reload.run,
}
ON_REQUEST: dict[str, Callable[[Options], Section]] = {
    "profile": profiles.run,
}
"""They write into the tree."""
_ALL = SECTIONS | ON_REQUEST


def main() -> int:
    """Run what was asked for; the exit status."""
    arguments = _arguments()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # so that all started processes are ended
    make_environment()
    install_preforkd()
    base = Path(tempfile.mkdtemp(prefix="preforkd-bench-"))
    try:
        machine = facts(base)
        print(markdown([{"machine": name, "": str(value)} for name, value in machine.items()]), flush=True)
        sections = [_run(name, base, arguments) for name in arguments.only]
    finally:
        shutil.rmtree(base, ignore_errors=True)
    targets = [target for section in sections for target in section.targets]
    print(f"\n## Targets\n\n{markdown([target.line for target in targets])}")
    data = {"machine": machine, "seed": arguments.seed, "sections": [section.as_data() for section in sections]}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return int(any(target.outcome == "missed" for target in targets))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of: {', '.join(_ALL)}")
    parser.add_argument("--json", type=Path, default=ROOT / "build/bench.json", help="where all figures go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for tuning, not for the record")
    parser.add_argument("--full", action="store_true", help="also what takes very long")
    arguments = parser.parse_args()
    arguments.only = [name for name in arguments.only.split(",") if name]
    if unknown := [name for name in arguments.only if name not in _ALL]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(_ALL)}")
    return arguments


def _run(name: str, base: Path, arguments: argparse.Namespace) -> Section:
    """One section in a folder of its own, its table printed as soon as it is there."""
    folder = base / name
    folder.mkdir()
    started_s = monotonic_s()
    section = _ALL[name](Options(folder, arguments.seed, arguments.quick, arguments.full))
    section.notes.append(f"{monotonic_s() - started_s:.0f} seconds")
    print(f"\n{section.as_markdown()}", flush=True)
    return section


if __name__ == "__main__":
    sys.exit(main())
