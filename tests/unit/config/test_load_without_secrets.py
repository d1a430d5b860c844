"""What `preforkd service` reads: everything but secrets, which only the service itself may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.load import load, load_without_secrets
from supervisor.errors import ConfigError

POOL = '[pools.mail]\nqueue = "mail"\nhandler = "m:f"\n'


def written(folder: Path, text: str) -> str:
    file = folder / "preforkd.toml"
    file.write_text(f'[daemon]\nstate_dir = "state"\nruntime_dir = "run"\n{text}{POOL}')
    return str(file)


@pytest.mark.parametrize(
    "secret",
    [
        '[broker]\nurl = "amqp://${NOT_SET}@rabbit"\n',
        '[broker]\nurl = ["amqp://a:${NOT_SET}@one", "amqp://two"]\n',
        '[broker]\nurl_file = "/nowhere/url"\n',
        '[web]\nlisten = "0.0.0.0:9750"\ntoken = "${NOT_SET}"\n',
        '[web]\nlisten = "0.0.0.0:9750"\ntoken_file = "/nowhere/token"\n',
        '[broker]\nurl = "amqp://h"\n[fleet]\nurl_file = "/nowhere/url"\nname = "prod"\n',
        '[hooks]\nwebhook = "https://example.org/${NOT_SET}"\n',
    ],
)
def test_a_secret_that_is_not_here_is_not_asked_for(secret: str, tmp_path: Path) -> None:
    path = written(tmp_path, secret)
    assert load_without_secrets(path).pools["mail"].handler == "m:f"


@pytest.mark.parametrize(("broker", "embedded"), [("", True), ('url = "embedded:"', True), ('url = "amqp://h"', False)])
def test_the_kind_of_the_broker_is_kept(broker: str, embedded: bool, tmp_path: Path) -> None:
    assert load_without_secrets(written(tmp_path, f"[broker]\n{broker}\n")).broker.embedded is embedded


def test_a_mistake_elsewhere_is_told_as_load_tells_it(tmp_path: Path) -> None:
    path = written(tmp_path, '[log]\nlevel = "loud"\n')
    with pytest.raises(ConfigError) as expected:
        load(path)
    with pytest.raises(ConfigError) as found:
        load_without_secrets(path)
    assert str(found.value) == str(expected.value)
