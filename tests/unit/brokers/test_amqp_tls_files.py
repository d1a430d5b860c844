"""The files of [broker.tls]: what is wrong with one is said by its name, before anything is dialled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pika.exceptions
import pytest

from supervisor.brokers.amqp.errors import explain
from supervisor.brokers.amqp.tls import tls_context
from supervisor.config.schema import TlsConfig

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=a", "-days", "2")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.pem and a.key, b.pem and b.key, and secret.key with a passphrase."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        _openssl(folder, "req", "-x509", *_EC, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    _openssl(folder, "pkey", "-in", "a.key", "-aes256", "-passout", "pass:hunter2", "-out", "secret.key")
    (folder / "empty").write_text("")
    (folder / "der").write_bytes(b"\x30\x82\x01\x0a")
    (folder / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return folder


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def _tls(files: Path, ca: str = "a.pem", cert: str = "a.pem", key: str = "a.key") -> TlsConfig:
    paths = [str(files / name) if name else "" for name in (ca, cert, key)]
    return TlsConfig(ca_file=paths[0], cert_file=paths[1], key_file=paths[2])


def test_files_that_belong_together_are_taken(files: Path) -> None:
    assert tls_context(_tls(files)).check_hostname


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"key": "secret.key"}, r"key_file = .*secret.key: the key has a passphrase"),
        ({"key": "b.key"}, r"key_file = .*b.key: is not the key of the certificate in cert_file = .*a.pem"),
        ({"key": "none"}, r"key_file = .*none: cannot be read: No such file"),
        ({"key": "a.pem"}, r"cert_file = .*a.pem, key_file = .*a.pem: no usable certificate and key"),
        ({"cert": "empty"}, r"cert_file = .*empty: is no PEM file"),
        ({"cert": "a.key"}, r"cert_file = .*a.key, key_file = .*: no usable certificate and key"),
        ({"cert": "torn.pem"}, r"torn.pem.*: no usable certificate and key"),
        ({"ca": "der"}, r"ca_file = .*der: is no PEM file"),
        ({"ca": "torn.pem"}, r"ca_file = .*torn.pem: holds no usable certificate"),
        ({"ca": "."}, r"ca_file = .*: cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_serve_is_named(files: Path, wrong: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tls_context(_tls(files, **wrong))


@pytest.mark.parametrize(
    ("words", "said", "final"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "wants a client cert", True),
        ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired", "our certificate has expired", True),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", "who signed our certificate", True),
        ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate", "does not accept our certificate", True),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] verify failed: certificate has expired", "it has expired", False),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] verify failed: Hostname mismatch", "another host", False),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] verify failed: self-signed certificate", "ca_file", False),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "speaks no TLS", False),
    ],
)
def test_words_of_openssl_become_words_for_people(words: str, said: str, final: bool) -> None:
    trouble = explain(pika.exceptions.IncompatibleProtocolError(f"StreamLostError: SSLError(1, '{words}')"))
    assert said in trouble.reason
    assert "load balancer" not in trouble.reason
    assert trouble.fatal is final


def test_a_broker_without_plain_is_refused_by_name() -> None:
    trouble = explain(pika.exceptions.AuthenticationError("PLAIN"))
    assert "auth_mechanisms" in trouble.reason
    assert trouble.fatal
