"""The files of etc/kubernetes and etc/container: valid for their platform, and true to each other and to preforkd."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from supervisor.cli.probe import KINDS, TIMEOUT_S
from supervisor.config.load import interpret
from supervisor.config.schema import Config
from supervisor.master.stop import phases
from supervisor.quantities import read_bytes, read_seconds
from supervisor.system.stop_grace import VARIABLE as GRACE
from tests.support import containerfile
from tests.support.pages import blocks
from tests.support.source_tree import ROOT

KUBERNETES, CONTAINER = ROOT / "etc/kubernetes", ROOT / "etc/container"
RELEASE = "1.30"
"""The oldest release of Kubernetes that the manifests are checked for: all that they use is stable there."""

CLEAN_UP_S = phases.LEAVE_S + phases.SETTLE_S + phases.QUIT_S + phases.CLOSE_S
DAEMON_BYTES = 200 * 1024**2

Manifest = dict[str, Any]


def read(name: str) -> list[Manifest]:
    return [found for found in yaml.safe_load_all((KUBERNETES / name).read_text()) if found]


FILES = sorted(path.name for path in KUBERNETES.glob("*.yaml"))
MANIFESTS = {f"{name}/{each['kind']}": each for name in FILES for each in read(name)}
OWN = {name: each for name, each in MANIFESTS.items() if each["apiVersion"] in ("v1", "apps/v1", "policy/v1")}
OTHERS = {name: each for name, each in MANIFESTS.items() if name not in OWN}


def only(kind: str) -> Manifest:
    (found,) = (each for each in MANIFESTS.values() if each["kind"] == kind)
    return found


@pytest.fixture
def pod() -> Manifest:
    found: Manifest = only("StatefulSet")["spec"]["template"]["spec"]
    return found


@pytest.fixture
def main(pod: Manifest) -> Manifest:
    """The container of the pod."""
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The configuration in the ConfigMap, with the Secret's files in a folder of the test."""
    for name, text in only("Secret")["stringData"].items():
        (tmp_path / name).write_text(text)
    text = only("ConfigMap")["data"]["preforkd.toml"].replace("/etc/preforkd-secrets", str(tmp_path))
    return interpret(tomllib.loads(text), Path("/etc/preforkd/preforkd.toml"), {})


# ---- valid for the platform -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_kubernetes_accepts_it(name: str) -> None:
    kubernetes_validate.validate(OWN[name], RELEASE, strict=True)


def test_the_validator_finds_a_field_that_there_is_not() -> None:
    wrong = {**only("PodDisruptionBudget"), "spec": {"maxUnavailabel": 1}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASE, strict=True)


FIELDS: dict[str, dict[str, set[str]]] = {
    # kedacore/keda, config/crd/bases/keda.sh_scaledobjects.yaml and keda.sh_triggerauthentications.yaml (v2.18)
    "ScaledObject": {
        "spec": {
            *("scaleTargetRef", "triggers", "minReplicaCount", "maxReplicaCount", "idleReplicaCount"),
            *("pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "fallback", "advanced"),
        },
        "spec.scaleTargetRef": {"apiVersion", "kind", "name", "envSourceContainerName"},
        "spec.advanced": {"horizontalPodAutoscalerConfig", "restoreToOriginalReplicaCount", "scalingModifiers"},
        "spec.advanced.horizontalPodAutoscalerConfig": {"behavior", "name"},
        "spec.advanced.horizontalPodAutoscalerConfig.behavior": {"scaleDown", "scaleUp"},
        "spec.triggers": {"type", "metadata", "name", "authenticationRef", "metricType", "useCachedMetrics"},
        # kedacore/keda, pkg/scalers/rabbitmq_scaler.go
        "spec.triggers.metadata": {
            *("protocol", "mode", "queueName", "value", "activationValue", "excludeUnacknowledged", "vhostName"),
            *("useRegex", "operation", "pageSize", "timeout", "unsafeSsl", "hostFromEnv", "metricName"),
        },
    },
    "TriggerAuthentication": {
        "spec": {"secretTargetRef", "podIdentity", "env", "configMapTargetRef", "hashiCorpVault", "filePath"},
        "spec.secretTargetRef": {"parameter", "name", "key"},
    },
    # prometheus-operator, example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml
    "ServiceMonitor": {
        "spec": {"jobLabel", "selector", "endpoints", "namespaceSelector", "targetLabels", "podTargetLabels"},
        "spec.endpoints": {"port", "path", "interval", "scrapeTimeout", "scheme", "authorization", "tlsConfig"},
        "spec.endpoints.authorization": {"type", "credentials"},
        "spec.endpoints.authorization.credentials": {"name", "key", "optional"},
    },
    "Kustomization": {"": {"apiVersion", "kind", "resources"}},
}
"""The fields of other operators' kinds, by path; a list's elements have the path of the list."""


def at(manifest: Any, path: str) -> list[Any]:
    """What is at a path; a list stands for each of its elements."""
    found = [manifest]
    for name in filter(None, path.split(".")):
        found = [each[name] for each in found if name in each]
        found = list(itertools.chain.from_iterable(each if isinstance(each, list) else [each] for each in found))
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_an_operators_kind_has_no_field_that_it_does_not_know(name: str) -> None:
    manifest = OTHERS[name]
    for path, known in FIELDS[manifest["kind"]].items():
        for each in at(manifest, path):
            assert set(each) <= known, path


def test_metadata_of_a_trigger_are_texts() -> None:
    for metadata in at(only("ScaledObject"), "spec.triggers.metadata"):
        assert {type(value) for value in metadata.values()} == {str}


def test_every_file_is_applied_or_named_as_one_that_is_not() -> None:
    text = (KUBERNETES / "kustomization.yaml").read_text()
    applied = set(only("Kustomization")["resources"])

    assert applied | {"kustomization.yaml", "scaledobject.yaml", "servicemonitor.yaml"} == set(FILES)
    assert [name for name in FILES if name not in text] == ["kustomization.yaml"]


# ---- true to preforkd -----------------------------------------------------------------------------------------------


def test_a_stop_of_the_pod_lasts_longer_than_the_drain(pod: Manifest, config: Config) -> None:
    assert pod["terminationGracePeriodSeconds"] > config.daemon.stop_timeout_s + CLEAN_UP_S


@pytest.mark.parametrize(
    ("probe", "kind"), [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")]
)
def test_probes_ask_preforkd_and_wait_for_its_line(main: Manifest, probe: str, kind: str) -> None:
    found = main[probe]

    assert found["exec"]["command"] == ["preforkd", "status", "--probe", kind]
    assert kind in KINDS
    assert found["timeoutSeconds"] > TIMEOUT_S
    assert found.get("failureThreshold", 3) > 1, "one busy moment is no reason"


def test_ports_are_those_of_the_configuration(main: Manifest, config: Config) -> None:
    host, port = config.web.address
    (named,) = main["ports"]
    (service,) = only("Service")["spec"]["ports"]

    assert (host, named["containerPort"], service["port"]) == ("0.0.0.0", port, port)
    assert service["targetPort"] == named["name"] == only("ServiceMonitor")["spec"]["endpoints"][0]["port"]


def test_the_pod_is_the_images_user_and_may_not_become_another(pod: Manifest, main: Manifest) -> None:
    user = image().user

    security, own = pod["securityContext"], main["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == user
    assert (security["runAsNonRoot"], security["fsGroup"]) == (True, security["runAsGroup"])
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_all_that_is_written_and_read_is_mounted(pod: Manifest, main: Manifest, config: Config) -> None:
    mounts = {mount["mountPath"]: mount for mount in main["volumeMounts"]}
    text = only("ConfigMap")["data"]["preforkd.toml"]
    secrets = Path("/etc/preforkd-secrets")
    volumes = {volume["name"] for volume in pod["volumes"]} | {
        claim["metadata"]["name"] for claim in only("StatefulSet")["spec"]["volumeClaimTemplates"]
    }

    assert Path("/var/lib/preforkd") in Path(config.daemon.state_dir).parents, "its root is not preforkd's"
    assert str(Path(config.daemon.runtime_dir).parent) in mounts
    assert {"/var/lib/preforkd", "/run", "/etc/preforkd", str(secrets)} == set(mounts)
    assert {mount["name"] for mount in mounts.values()} == volumes
    assert all(mounts[path]["readOnly"] for path in ("/etc/preforkd", str(secrets)))
    (volume,) = (each["secret"] for each in pod["volumes"] if "secret" in each)
    named = {str(secrets / item["path"]) for item in volume["items"]}
    assert set(re.findall(r'_file = "(.*)"', text)) == named
    assert {item["key"] for item in volume["items"]} <= set(only("Secret")["stringData"])
    assert volume["defaultMode"] == 0o440


def test_one_daemon_has_the_state(pod: Manifest) -> None:
    (claim,) = only("StatefulSet")["spec"]["volumeClaimTemplates"]

    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_every_worker_meets_its_own_limit_of_memory_before_the_pods(main: Manifest, config: Config) -> None:
    limit_bytes = read_bytes(main["resources"]["limits"]["memory"].replace("Mi", "MiB"))
    workers = sum(pool.workers * pool.kill_memory_bytes for pool in config.pools.values())

    assert limit_bytes >= workers + DAEMON_BYTES


def test_selectors_find_the_pods() -> None:
    labels = only("StatefulSet")["spec"]["template"]["metadata"]["labels"]

    for selector in (
        only("StatefulSet")["spec"]["selector"]["matchLabels"],
        only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only("Service")["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
    monitored = only("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= only("Service")["metadata"]["labels"].items()
    assert only("StatefulSet")["spec"]["serviceName"] == only("Service")["metadata"]["name"]
    assert labels[only("ServiceMonitor")["spec"]["jobLabel"]] == "preforkd", "the job that the alerts expect"


def test_the_services_names_are_allowed_and_no_others(config: Config) -> None:
    assert config.web.allowed_hosts == ("preforkd", "*.preforkd", "*.svc", "*.svc.cluster.local")


def test_keda_counts_what_is_prefetched(config: Config) -> None:
    scaled = only("ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    (pool,) = (pool for pool in config.pools.values() if pool.queue == trigger["metadata"]["queueName"])

    assert trigger["metadata"]["protocol"] == "http"
    assert trigger["metadata"]["excludeUnacknowledged"] == "false"
    assert float(trigger["metadata"]["value"]) >= pool.prefetch
    assert scaled["minReplicaCount"] >= 1
    target, stateful = scaled["scaleTargetRef"], only("StatefulSet")
    assert (target["kind"], target["apiVersion"]) == (stateful["kind"], stateful["apiVersion"])
    assert target["name"] == stateful["metadata"]["name"]


def test_keda_removes_a_pod_no_sooner_than_the_one_before_has_drained(pod: Manifest) -> None:
    behavior = only("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (policy,) = behavior["scaleDown"]["policies"]

    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= pod["terminationGracePeriodSeconds"]


def test_keys_of_the_secret_are_there_for_all_that_name_them() -> None:
    keys = set(only("Secret")["stringData"])
    (host,) = only("TriggerAuthentication")["spec"]["secretTargetRef"]
    credentials = only("ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]

    assert (host["name"], credentials["name"]) == (only("Secret")["metadata"]["name"],) * 2
    assert {host["key"], credentials["key"]} <= keys
    assert (
        only("ScaledObject")["spec"]["triggers"][0]["authenticationRef"]["name"]
        == (only("TriggerAuthentication")["metadata"]["name"])
    )


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge, as far as the page needs one: tables by key, lists of named elements by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base.get(key), value) for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list):
        named = {each["name"]: each for each in base}
        return list((named | {each["name"]: merged(named.get(each["name"]), each) for each in patch}).values())
    return patch


def test_pods_with_a_queue_each_have_the_variable_that_the_page_reads() -> None:
    page = ROOT / "docs/how-to/partitions.md"
    (patch,) = (yaml.safe_load(block.text) for block in blocks(page, "yaml"))
    (config,) = (block.text for block in blocks(page, "toml"))
    stateful = merged(only("StatefulSet"), patch)
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    (claim,) = stateful["spec"]["volumeClaimTemplates"]

    kubernetes_validate.validate(stateful, RELEASE, strict=True)
    assert {each["name"] for each in container["env"]} == {GRACE, "PARTITION"}
    assert stateful["spec"]["replicas"] > 1
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    environment = {"RABBITMQ_URL": "amqp://h", "PARTITION": f"{stateful['metadata']['name']}-0"}
    pool = interpret(tomllib.loads(config), Path("/etc/preforkd/preforkd.toml"), environment).pools["email"]
    assert (pool.queue, pool.exclusive) == ("email.preforkd-0", True)
    assert pool.queue in page.read_text()


# ---- the image and Compose ------------------------------------------------------------------------------------------


def image() -> containerfile.Stage:
    return containerfile.parse((CONTAINER / "Containerfile").read_text())[-1]


def compose() -> Manifest:
    found: Manifest = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    return found


def compose_config() -> Config:
    environment = {"RABBITMQ_URL": "amqp://u:p@rabbitmq:5672/", "PREFORKD_WEB_TOKEN": "0" * 32}
    text = (CONTAINER / "preforkd.toml").read_text()
    return interpret(tomllib.loads(text), Path("/etc/preforkd/preforkd.toml"), environment)


def test_the_image_is_that_of_the_manifests(main: Manifest) -> None:
    stage, service = image(), compose()["services"]["preforkd"]

    assert main["image"] == service["image"] == f"preforkd:{version()}"
    assert stage.ports == [main["ports"][0]["containerPort"]]
    assert stage.healthcheck == ["preforkd", "status", "--probe", "live"]
    assert (stage.entrypoint, stage.command, stage.stop_signal) == (["preforkd"], ["run"], "SIGTERM")
    assert "docs/containers.md" in (CONTAINER / "Containerfile").read_text()


def version() -> str:
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def test_the_images_health_waits_for_the_line() -> None:
    (timeout,) = re.findall(r"--timeout=(\S+)", (CONTAINER / "Containerfile").read_text())

    assert read_seconds(timeout) > TIMEOUT_S


def test_compose_accepts_its_file() -> None:
    found = PyCompose.from_yaml((CONTAINER / "compose.yaml").read_text())

    assert found.service_names() == ["rabbitmq", "preforkd"]


@pytest.mark.parametrize(
    ("right", "wrong"), [("read_only: true", "read_onyl: true"), ("stop_grace_period: 95s", "stop_grace_period: soon")]
)
def test_its_validator_finds_a_mistake(right: str, wrong: str) -> None:
    text = (CONTAINER / "compose.yaml").read_text()
    assert right in text

    with pytest.raises(ValueError, match=wrong.partition(":")[0]):
        PyCompose.from_yaml(text.replace(right, wrong))


def test_compose_lets_the_daemon_drain_and_gives_it_what_the_configuration_reads() -> None:
    service, config = compose()["services"]["preforkd"], compose_config()
    text = (CONTAINER / "preforkd.toml").read_text()

    assert read_seconds(service["stop_grace_period"]) > config.daemon.stop_timeout_s + CLEAN_UP_S
    assert service["environment"].pop(GRACE) == service["stop_grace_period"]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(service["environment"])
    assert (service["user"], service["read_only"], service["cap_drop"]) == (image().user, True, ["ALL"])
    assert service["ports"] == [f"127.0.0.1:{config.web.address[1]}:{config.web.address[1]}"]
    mounted = [entry.split(":") for entry in service["volumes"]]
    assert ["state", "/var/lib/preforkd"] in mounted
    assert Path("/var/lib/preforkd") in Path(config.daemon.state_dir).parents
    assert [entry.split(":")[0] for entry in service["tmpfs"]] == [str(Path(config.daemon.runtime_dir).parent)]
    assert (CONTAINER / service["build"]["context"] / service["build"]["dockerfile"]).samefile(
        CONTAINER / "Containerfile"
    )


def test_compose_keeps_memory_above_what_all_workers_may_use() -> None:
    limit_bytes = read_bytes(compose()["services"]["preforkd"]["mem_limit"].replace("m", "MiB"))
    workers = sum(pool.workers * pool.kill_memory_bytes for pool in compose_config().pools.values())

    assert limit_bytes >= workers + DAEMON_BYTES


def test_compose_asks_for_every_secret_and_has_no_default_for_one() -> None:
    text = (CONTAINER / "compose.yaml").read_text()

    assert set(re.findall(r"\$\{(\w+)", text)) == {"RABBITMQ_PASSWORD", "PREFORKD_WEB_TOKEN"}
    assert re.findall(r"\$\{\w+(?!:\?)[^\w]", text) == re.findall(r"\$\{\w+:[^?]", text) == []
