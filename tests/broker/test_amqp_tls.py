"""amqps with a CA of our own: verified, verified against the host name, refused, and with a client certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.brokers.base import Connected, Disconnected, Fatal
from supervisor.client import Client, LoginRefused, TimedOut, Tls, Unroutable
from supervisor.config.schema import BrokerConfig, TlsConfig
from tests.support.brokers import Backend, a_pool
from tests.support.rabbitmq import free_port, running_node

pytestmark = pytest.mark.rabbitmq


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def _certificate(folder: Path, name: str, subject_alternatives: str) -> None:
    """NAME.key and NAME.pem, signed by the CA in the folder."""
    (folder / f"{name}.ext").write_text(f"subjectAltName = {subject_alternatives}\n")
    request = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"]
    _openssl(folder, "req", *request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext"]
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    _openssl(
        folder, "req", "-x509", *curve, "-nodes", "-subj", "/CN=ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"
    )
    _certificate(folder, "server", "DNS:localhost")
    _certificate(folder, "client", "DNS:client")
    return folder


@pytest.fixture(scope="module")
def tls_port(tls_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A node that wants client certificates of our CA."""
    port = free_port()
    settings = f"""
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {tls_folder}/ca.pem
ssl_options.certfile = {tls_folder}/server.pem
ssl_options.keyfile = {tls_folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""
    with running_node(tmp_path_factory.mktemp("rabbitmq-tls"), settings):
        yield port


def _config(port: int, folder: Path, host: str = "localhost", **tls: object) -> BrokerConfig:
    ours = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
    files = {
        name: str(folder / str(value)) if value else "" for name, value in {**ours, **tls}.items() if name != "verify"
    }
    settings = TlsConfig(**files, verify=bool(tls.get("verify", True)))
    return BrokerConfig(urls=(f"amqps://guest:guest@{host}:{port}/%2F",), tls=settings)


def test_a_broker_with_our_cas_certificate_is_used(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    backend = Backend(_config(tls_port, tls_folder), tmp_path)
    pool = a_pool()
    with backend.driver(pool) as driver:
        driver.start()
        assert driver.of(Connected)[0].host.startswith("amqps://localhost")
    backend.clean_up(pool)


def test_a_client_of_a_program_publishes_over_tls_and_names_a_certificate_that_is_not_trusted(
    tls_port: int, tls_folder: Path
) -> None:
    config = _config(tls_port, tls_folder)
    with Client(config.urls, tls=config.tls) as client, pytest.raises(Unroutable, match="amqps://localhost"):
        client.publish("no-such-queue", b"")
    with (
        Client(config.urls, tls=Tls(ca_file=str(tls_folder / "client.pem"))) as client,
        pytest.raises((LoginRefused, TimedOut), match="certificate"),
    ):
        client.publish("no-such-queue", b"", timeout_s=5)
    with (
        Client(config.urls, tls=Tls(ca_file=str(tls_folder / "missing.pem"))) as client,
        pytest.raises(LoginRefused, match=r"tls: ca_file = .*cannot be read.*check the client's URL and its `tls`"),
    ):
        client.publish("no-such-queue", b"", timeout_s=5)


def _trouble(config: BrokerConfig, tmp_path: Path) -> str:
    with Backend(config, tmp_path).driver(a_pool()) as driver:
        driver.broker.start()
        return driver.next(Disconnected).reason


def test_a_broker_that_an_unknown_ca_signed_is_not_trusted(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    assert "ca_file" in _trouble(_config(tls_port, tls_folder, ca_file=""), tmp_path)


def test_a_broker_with_another_host_name_is_not_trusted(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    assert "not trusted" in _trouble(_config(tls_port, tls_folder, host="127.0.0.1"), tmp_path)


def test_verification_can_be_switched_off(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    config = _config(tls_port, tls_folder, host="127.0.0.1", ca_file="", verify=False)
    with Backend(config, tmp_path).driver(a_pool()) as driver:
        driver.broker.start()
        driver.next(Connected)


def test_a_missing_client_certificate_is_named_and_final(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    trouble = _refusal(_config(tls_port, tls_folder, cert_file="", key_file=""), tmp_path)
    assert "set [broker.tls] cert_file and key_file" in trouble


def test_a_certificate_of_another_ca_is_named_and_final(tls_port: int, tls_folder: Path, tmp_path: Path) -> None:
    _openssl(
        *(tls_folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=outsider", "-days", "2", "-keyout", "outsider.key", "-out", "outsider.pem"),
    )
    files = {"cert_file": "outsider.pem", "key_file": "outsider.key"}
    assert "[broker.tls] cert_file" in _refusal(_config(tls_port, tls_folder, **files), tmp_path)


def _refusal(config: BrokerConfig, tmp_path: Path) -> str:
    with Backend(config, tmp_path).driver(a_pool()) as driver:
        driver.broker.start()
        return driver.next(Fatal).reason
