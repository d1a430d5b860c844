"""`preforkd drill`: faults on purpose, in a private instance, then the exits table and the audit line."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from supervisor.cli.command import command
from supervisor.cli.console import ended_with, print_line, print_table, progress_bar
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.process import ENDS, interrupted_by, unmoved_by
from supervisor.control import SOCKET_NAME
from supervisor.drill.audit import AuditReport, Evidence, audit
from supervisor.drill.drill import Drill
from supervisor.drill.instance import Instance
from supervisor.drill.plan import DrillPlan, draw
from supervisor.errors import ConfigError, PreforkdError
from supervisor.system.scratch import scratch_folder


@command(
    "drill",
    ("2000 messages on the embedded queue", "preforkd drill"),
    ("The faults of a former drill, on RabbitMQ", "preforkd drill --seed 42 --broker amqp://localhost"),
)
@click.option("--messages", metavar="NUMBER", default=2000, show_default=True, help="Publish so many messages.")
@click.option(
    "--broker", default="embedded:", metavar="URL", show_default=True, help="Make the scratch queue on this broker."
)
@click.option(
    "--seed",
    default=None,
    type=int,
    metavar="NUMBER",
    help="Repeat a drill: the same seed makes the same faults in the same messages.",
)
@click.option(
    "--on-crash",
    default="retry",
    show_default=True,
    type=click.Choice(["retry", "park"]),
    help="Set on_crash of the pool.",
)
@click.option("--keep", is_flag=True, help="Keep the folder of the drill: logs, exit history, effects.")
@pass_invocation
def drill_command(
    invocation: Invocation, messages: int, broker: str, seed: int | None, on_crash: str, keep: bool
) -> int:
    """Make faults on purpose on a scratch queue, then audit every message.

    The faults are crashes, hangs, kills and lost connections. The drill has a configuration and a folder of its own.

    Exit code 0 only if nothing was lost, nothing ran twice undeclared, and every fault is on record.
    """
    seed = secrets.randbelow(10**6) if seed is None else seed
    plan = draw(messages, seed)
    folder = _folder(invocation)
    print_line(f"drill: {messages} messages, seed {seed}, folder {folder}")
    instance = Instance(folder, broker, f"preforkd-drill-{secrets.token_hex(4)}", on_crash)
    passed = False
    try:
        with interrupted_by(ENDS):
            exit_notice = _run(instance, plan)
        passed = exit_notice.passed
    finally:
        with unmoved_by(ENDS):
            instance.stop()
        with suppress(PreforkdError):  # the drill's own error is the one to be told
            instance.delete_queues()
        if passed and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print_line(f"logs, exit history and effects are kept in {folder}")
    print_line(exit_notice.line)
    return 0 if passed else 1


def _run(instance: Instance, plan: DrillPlan) -> AuditReport:
    with progress_bar() as bar:
        task = bar.add_task("effects", total=len(plan.orders))

        def show(effects: int, news: str) -> None:
            bar.update(task, completed=effects)
            if news and bar.disable:
                print_line(f"  {news}")
            elif news:
                bar.console.print(f"  {news}", markup=False, highlight=False)

        evidence = Drill(instance, plan, show).run()
    _print_exits(evidence)
    report = audit(evidence)
    for title, findings in (
        ("lost", report.lost),
        ("run twice, undeclared", report.duplicated),
        ("fault without its record", report.unexplained),
    ):
        for finding in findings[:20]:
            print_line(f"{title}: {finding}")
    return report


def _print_exits(evidence: Evidence) -> None:
    ends = ((each["kind"], each["cause"], ended_with(each["status"], each["signal"])) for each in evidence.exits)
    counts = Counter(ends)
    print_table(("child", "cause", "ended with", ">count"), [(*key, count) for key, count in sorted(counts.items())])


def _folder(invocation: Invocation) -> Path:
    """A new folder: where temporary files are, else beside the state of a daemon that is configured here.

    Raises StateError if nothing can be written.
    """
    return scratch_folder("preforkd-drill-", "the drill", _places(invocation), f"run/{SOCKET_NAME}")


def _places(invocation: Invocation) -> Iterator[Path]:
    with suppress(ConfigError):  # a drill needs no configuration
        for folder in (invocation.runtime_dir, invocation.state_dir):
            yield from (folder, folder.parent)
