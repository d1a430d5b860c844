"""TLS to RabbitMQ: makes the context from the files in [broker.tls], and names the file of a failure.

Runs in the consumer and the command line. OpenSSL's texts name no file and no setting: a table gives their meaning.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import NoReturn

from supervisor.config.schema import TlsConfig

_CERTIFICATE = b"-----BEGIN "


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """The context for a connection. Raises ValueError that names the file and what is wrong with it."""
    for key in ("ca_file", "cert_file", "key_file"):
        _refuse_no_pem(key, getattr(tls, key))
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except ssl.SSLError as error:
        raise ValueError(f"broker.tls.ca_file = {tls.ca_file}: holds no usable certificate ({error.reason})") from error
    if tls.cert_file:
        _load_own(context, tls)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse_no_pem(key: str, file: str) -> None:
    if not file:
        return
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"broker.tls.{key} = {file}: cannot be read: {error.strerror}") from error
    if _CERTIFICATE not in data:
        raise ValueError(f"broker.tls.{key} = {file}: is no PEM file (convert it with openssl)")


def _load_own(context: ssl.SSLContext, tls: TlsConfig) -> None:
    key_file = tls.key_file or tls.cert_file
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file or None, password=_no_passphrase)
    except _Passphrase:
        raise ValueError(
            f"broker.tls.key_file = {key_file}: the key has a passphrase, and a daemon cannot be asked for it: "
            "store it without (openssl pkey)"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"is not the key of the certificate in cert_file = {tls.cert_file}"
            raise ValueError(f"broker.tls.key_file = {key_file}: {text}") from error
        files = f"cert_file = {tls.cert_file}, key_file = {key_file}"
        raise ValueError(f"broker.tls: {files}: no usable certificate and key ({error.reason})") from error


class _Passphrase(Exception):
    """The key wants one. OpenSSL would ask for it at the terminal."""


def _no_passphrase() -> NoReturn:
    raise _Passphrase


_CERT = "[broker.tls] cert_file"
_TROUBLES: tuple[tuple[str, str, bool], ...] = (
    (
        r"certificate.required|NO_CERTIFICATE|peer did not return a certificate",
        "the broker wants a client certificate: set [broker.tls] cert_file and key_file",
        True,
    ),
    (r"alert.certificate.expired", f"the broker says that our certificate has expired: renew {_CERT}", True),
    (r"alert.certificate.revoked", f"the broker says that our certificate was revoked: renew {_CERT}", True),
    (r"alert.unknown.ca", f"the broker does not know who signed our certificate: check {_CERT}", True),
    (
        r"alert.(bad.certificate|unsupported.certificate|certificate.unknown|access.denied)",
        f"the broker does not accept our certificate: check {_CERT}",
        True,
    ),
    (
        r"alert.handshake.failure",
        f"the broker refuses the TLS handshake: it may want a client certificate ({_CERT})",
        False,
    ),
    (
        r"certificate has expired",
        "the broker's certificate is not trusted: it has expired (or this machine's clock is wrong)",
        False,
    ),
    (
        r"certificate is not yet valid",
        "the broker's certificate is not trusted: it is not valid yet (or this machine's clock is wrong)",
        False,
    ),
    (
        r"Hostname mismatch|IP address mismatch|doesn't match",
        "the broker's certificate is not trusted: it is for another host than [broker] url names",
        False,
    ),
    (r"CERTIFICATE_VERIFY_FAILED", "the broker's certificate is not trusted: check [broker.tls] ca_file", False),
    (r"WRONG_VERSION_NUMBER|record layer failure", "the port speaks no TLS: check the port, or write amqp://", False),
)
"""(pattern in OpenSSL's words, what it means, whether waiting cannot heal it); the first that matches counts."""


def tls_trouble(words: str) -> tuple[str, bool] | None:
    """(meaning, whether it is permanent) of OpenSSL's error `words`; None for words that are not of TLS."""
    text = words.replace("_", " ")
    if "SSL" not in text:
        return None
    for pattern, meaning, final in _TROUBLES:
        if re.search(pattern.replace("_", " "), text, re.IGNORECASE):
            return meaning, final
    return None
