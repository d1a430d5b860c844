"""The Containerfile's image, built and run without a container runtime (tests/support/container.py): the daemon as the
first process of a container, on the mounts that Kubernetes and Compose give it."""

from __future__ import annotations

import json
import os
import re
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import containerfile, debian
from tests.support.container import Container, Image, build
from tests.support.source_tree import ROOT
from tests.support.tools import cannot
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts"),
    pytest.mark.timeout(900),  # the first test builds a Debian tree, where none is in the cache
]

RECIPE, COMPOSE = ROOT / "etc/container/Containerfile", ROOT / "etc/container/preforkd.toml"
UID = 10001
TOKEN = "0123456789abcdef0123456789abcdef"
BASE = "python:3.13-slim"


@pytest.fixture(scope="module")
def base() -> Image:
    """What stands in for the base image: the same Python, from Debian."""
    try:
        root = debian.tree("python-3.13", "python3", "python3-venv")
    except debian.Unavailable as error:
        cannot(str(error))
    return Image((root,), containerfile.Stage(BASE))


@pytest.fixture(scope="module")
def image(base: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the recipe."""
    stages = containerfile.parse(RECIPE.read_text(), COMMIT="0123456789")
    return build(stages, {BASE: base}, ROOT, tmp_path_factory.mktemp("image"))


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[Container]:
    """A container with the mounts of etc/kubernetes, on the embedded queue, not started yet; without /tmp.

    Kubernetes gives the roots of volumes to root and to the group of fsGroup, with the bits that mount shows here.
    """
    config = next(yaml.safe_load_all((ROOT / "etc/kubernetes/config.yaml").read_text()))
    made = Container(image, tmp_path / "container", without=("/tmp",), temporary={"/run": f"mode=2777,gid={UID}"})
    made.volumes["/etc/preforkd"] = folder(tmp_path / "config", config["data"], 0o644, 0)
    secrets = {"broker-url": "embedded:\n", "web-token": TOKEN}
    made.volumes["/etc/preforkd-secrets"] = folder(tmp_path / "secrets", secrets, 0o440, UID)
    made.volumes["/var/lib/preforkd"] = folder(tmp_path / "state", {}, 0, UID)
    made.read_only = ("/etc/preforkd", "/etc/preforkd-secrets")
    (tmp_path / "container").mkdir()
    yield made
    made.end()


def folder(path: Path, files: dict[str, str], mode: int, gid: int) -> Path:
    """A volume: its files are links into a folder of their own, as the kubelet makes them."""
    (path / "..data").mkdir(parents=True)
    for name, text in files.items():
        (path / "..data" / name).write_text(text)
        (path / "..data" / name).chmod(mode)
        os.chown(path / "..data" / name, 0, gid)
        (path / name).symlink_to(f"..data/{name}")
    os.chown(path, 0, gid)
    path.chmod(0o2775)
    return path


def probe(container: Container, kind: str) -> tuple[int, str]:
    done = container.run("preforkd", "status", "--probe", kind)
    return done.returncode, done.stdout.strip()


def start(container: Container, *command: str) -> None:
    container.start(*command)
    eventually(lambda: probe(container, "ready") == (0, "ready"), "it is ready", 60.0)


def status(container: Container) -> dict[str, Any]:
    told = container.run("preforkd", "status", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def done(container: Container) -> int:
    found: int = status(container)["pools"]["email"]["counters"]["done"]
    return found


def publish(container: Container, text: str) -> None:
    sent = container.run("preforkd", "publish", "email", stdin=text)
    assert sent.returncode == 0, sent.stderr


FETCH = """
import http.client, json, sys
path, headers = sys.argv[1], json.loads(sys.argv[2])
connection = http.client.HTTPConnection("127.0.0.1", 9750, timeout=20)
connection.request("GET", path, headers=headers)
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


def fetched(container: Container, path: str, host: str = "preforkd:9750", token: str = "") -> tuple[int, str]:
    """Status and text of an answer of the web page under this name."""
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    told = container.run("python3", "-c", FETCH, path, json.dumps(headers))
    assert told.returncode == 0, told.stderr
    status, text = json.loads(told.stdout)
    return status, text


# ---- Kubernetes -----------------------------------------------------------------------------------------------------


def test_a_pod_works_stops_with_0_and_goes_on_with_the_same_volume(container: Container) -> None:
    start(container)
    assert probe(container, "live") == (0, "live")
    assert "0123456789" in container.run("preforkd", "--version").stdout
    publish(container, "1\n2\n3\n")
    eventually(lambda: done(container) == 3, "3 messages are done", 60.0)
    assert status(container)["pid"] == 1, "it is the container's init"

    assert container.stop(signal.SIGTERM) == 0
    start(container)
    assert done(container) == 3
    publish(container, "4\n")
    eventually(lambda: done(container) == 4, "a fourth is done", 60.0)

    container.end()  # a node that fails, or a kubelet whose time is over
    start(container)
    assert (done(container), status(container)["pid"]) == (4, 1)
    assert container.stop(signal.SIGTERM) == 0


def test_the_page_of_a_pod_is_for_those_who_have_the_token_under_its_services_names(container: Container) -> None:
    start(container)
    eventually(lambda: status(container)["sidecars"][0]["state"] == "ready", "the page is there", 60.0)

    assert fetched(container, "/healthz") == (200, '{"ok":true}')
    assert fetched(container, "/readyz") == (200, '{"ready":true}')
    assert fetched(container, "/metrics")[0] == 401
    assert "preforkd_build_info" in fetched(container, "/metrics", token=TOKEN)[1]
    pod = "preforkd-0.preforkd.default.svc.cluster.local:9750"
    assert fetched(container, "/metrics", pod, TOKEN)[0] == 200
    assert fetched(container, "/metrics", "evil.example", TOKEN)[0] == 421


def test_a_pod_with_no_capabilities_writes_to_its_two_volumes_alone(container: Container) -> None:
    start(container)

    facts = Path(f"/proc/{container.init}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s+10001", facts, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", facts, re.MULTILINE)
    assert container.run("ls", "/tmp").returncode == 2
    for path in ("/app/x", "/var/lib/x", "/opt/preforkd/x"):
        assert "Read-only file system" in container.run("touch", path).stderr
    check = container.run("preforkd", "check")
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_broker_that_is_away_restarts_no_pod(container: Container) -> None:
    secret = container.volumes["/etc/preforkd-secrets"] / "..data/broker-url"
    secret.write_text("amqp://preforkd:geheim@127.0.0.1:1/\n")
    container.start()

    eventually(lambda: probe(container, "live") == (0, "live"), "it is live", 60.0)

    code, line = eventually(lambda: probe(container, "ready"), "it says why it is not ready")
    assert (code, line.startswith("not ready: "), "geheim" in line) == (1, True, False)
    assert container.stop(signal.SIGTERM) == 0


def test_a_user_namespace_changes_nothing(container: Container) -> None:
    """As rootless runtimes have it, and Kubernetes with hostUsers: false. Files of root belong to the overflow uid."""
    container.mapped = True
    start(container)
    assert Path(f"/proc/{container.init}/uid_map").read_text().split() == ["10001", "10001", "1"]

    publish(container, "1\n")
    eventually(lambda: done(container) == 1, "a message is done", 60.0)
    assert container.stop(signal.SIGTERM) == 0


# ---- Docker ---------------------------------------------------------------------------------------------------------


def test_the_configuration_of_the_compose_file_works_with_its_mounts(image: Image, tmp_path: Path) -> None:
    service = yaml.safe_load((ROOT / "etc/container/compose.yaml").read_text())["services"]["preforkd"]
    (path, options), *_ = (entry.split(":", 1) for entry in service["tmpfs"])
    (tmp_path / "container").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/preforkd.toml").write_text(COMPOSE.read_text())
    container = Container(image, tmp_path / "container", temporary={path: options}, read_only=("/etc/preforkd",))
    container.volumes |= {"/var/lib/preforkd": tmp_path / "state", "/etc/preforkd": tmp_path / "config"}
    container.environment = {"RABBITMQ_URL": "embedded:", "PREFORKD_WEB_TOKEN": TOKEN}
    (tmp_path / "state").mkdir(mode=0o750)  # a new volume of Docker has the owner and mode of the image's folder
    os.chown(tmp_path / "state", UID, UID)
    try:
        start(container)
        assert container.run(*image.stage.healthcheck).stdout == "live\n"
        eventually(lambda: status(container)["sidecars"][0]["state"] == "ready", "the page is there", 60.0)
        assert fetched(container, "/metrics", token=TOKEN)[0] == 200
        assert container.stop(getattr(signal, image.stage.stop_signal)) == 0
    finally:
        container.end()


def test_an_application_is_an_image_on_top(image: Image, base: Image, tmp_path: Path) -> None:
    """The Containerfile of docs/containers.md, word for word."""
    page = (ROOT / "docs/containers.md").read_text()
    recipe, config = re.findall(r"```(?:dockerfile|toml)\n(FROM preforkd.*?|\[pools\.orders\].*?)```", page, re.DOTALL)
    context = tmp_path / "context"
    (context / "shop").mkdir(parents=True)
    (context / "requirements.txt").write_text("# none\n")
    (context / "shop/orders.py").write_text("def ship(message):\n    print('shipped', message.id, flush=True)\n")
    bases = {"preforkd:0.1.0": image}
    stages = containerfile.parse(recipe, {"preforkd:0.1.0": image.stage})
    shop = build(stages, bases, context, tmp_path / "layers")
    (tmp_path / "container").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/preforkd.toml").write_text(config)
    container = Container(shop, tmp_path / "container", temporary={"/run": f"uid={UID}"})
    container.volumes |= {"/etc/preforkd": tmp_path / "config", "/var/lib/preforkd": tmp_path / "state"}
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", UID, UID)
    try:
        start(container)
        queue = tomllib.loads(config)["pools"]["orders"]["queue"]
        assert container.run("preforkd", "publish", queue, stdin="x\n").returncode == 0
        eventually(lambda: "shipped" in container.log.read_text(), "the application's handler ran", 60.0)
        assert container.stop(signal.SIGTERM) == 0
    finally:
        container.end()
