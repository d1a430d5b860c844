"""Which queues `preforkd check` takes for partitions: those whose name has a variable for one daemon of several."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from supervisor.cli.partitions import about_partitions, shared_partitions
from supervisor.config.load import interpret, load
from supervisor.config.schema import FleetConfig

ENVIRONMENT = {
    "PARTITION": "3",
    "POD_NAME": "preforkd-0",
    "UNIT": "mail_12",
    "HOST": "mq-a",
    "STAGE": "staging",
    "VERSION": "v2",
    "EMPTY": "",
}


def told(
    queue: str, more: str = "", broker: str = "amqp://h", fleet: FleetConfig | None = None
) -> list[tuple[str, str]]:
    text = f'[broker]\nurl = "{broker}"\n[pools.email]\nqueue = "{queue}"\nhandler = "workers.log:run"\n{more}\n'
    tree = tomllib.loads(text)
    config = interpret(tree, Path("/f/preforkd.toml"), ENVIRONMENT)
    return list(shared_partitions(msgspec.structs.replace(config, fleet=fleet), {"email": queue}, "mq-a"))


@pytest.mark.parametrize(
    "queue", ["email.${PARTITION}", "email.${POD_NAME}", "${UNIT}", "email.${HOST}", "${STAGE}.${PARTITION:-0}.email"]
)
def test_a_queue_of_one_daemon_of_several_should_be_exclusive(queue: str) -> None:
    ((key, text),) = told(queue)

    assert key == "pools.email.queue"
    assert repr(queue) in text
    assert "Set exclusive = true, and move state_dir with the queue" in text


@pytest.mark.parametrize(
    "queue", ["orders.2", "email.${STAGE}", "email.${VERSION}", "email${EMPTY}", "$${PARTITION}", "email"]
)
def test_a_plain_name_and_one_of_an_environment_are_no_partitions(queue: str) -> None:
    assert told(queue) == []


def test_an_exclusive_queue_the_embedded_one_and_those_of_a_fleet_are_fine() -> None:
    assert told("email.${PARTITION}", "exclusive = true") == []
    assert told("email.${PARTITION}", broker="embedded:") == []
    assert told("email.${PARTITION}", fleet=FleetConfig("postgresql://h/d", "prod")) == []


def test_the_file_is_read_again_and_one_that_is_gone_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITION", "3")
    path = tmp_path / "preforkd.toml"
    path.write_text(
        '[broker]\nurl = "amqp://h"\n[pools.email]\nqueue = "email.${PARTITION}"\nhandler = "workers.log:run"\n'
    )
    config = load(str(path))

    assert [key for key, _ in about_partitions(config)] == ["pools.email.queue"]
    path.unlink()
    assert list(about_partitions(config)) == []
