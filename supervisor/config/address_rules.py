"""The rules of the URLs that lead to the broker and to the store of a fleet. Pure.

A reason never shows the URL: its password would be in it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from supervisor.config import schema

_URL_SCHEMES = ("amqp", "amqps")
_STORE_SCHEMES = ("postgresql", "postgres")


def bad_urls(broker: schema.BrokerConfig) -> str:
    """What is wrong with the URLs of the broker; "" for nothing."""
    if not broker.urls:
        return "must not be empty"
    if "embedded:" in broker.urls and not broker.embedded:
        return '"embedded:" cannot be in a list with others'
    return "" if broker.embedded else next(filter(None, map(_bad_url, broker.urls)), "")


def _bad_url(url: str) -> str:
    if not url.isprintable() or " " in url:
        return "contains a blank or a control character: write a blank in user, password and vhost as %20"
    if "#" in url or "@" in url.partition("//")[2][_authority_end(url) :]:
        return "contains a character that ends the password early: write # as %23, ? as %3F, / as %2F, @ as %40"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not a URL: {_bad_part(str(error))}"
    if parts.scheme not in _URL_SCHEMES or not url.partition(":")[2].startswith("//"):
        return 'must be "embedded:", "amqp://…" or "amqps://…"'
    if port == 0:
        return "not a URL: there is no port 0"
    if not parts.hostname:
        return "names no host: write amqp://user:password@host:5672/vhost"
    if "/" in parts.path[1:]:
        return "write a / in the vhost's name as %2F"
    return ""


def _authority_end(url: str) -> int:
    """The length of user, password, host and port as RFC 3986, 3.2 reads a URL."""
    rest = url.partition("//")[2]
    return min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))


def _bad_part(error: str) -> str:
    if "out of range" in error:
        return "the port is no number up to 65535"
    return "the port is no number" if "ort" in error else "brackets are for IPv6 hosts"


def bad_store_url(fleet: schema.FleetConfig) -> str:
    """What is wrong with the URL of a fleet's PostgreSQL, as far as this is seen without libpq; "" for nothing."""
    url = fleet.url
    if not url.isprintable() or " " in url:
        return "the URL in it contains a blank or a control character: write a blank as %20"
    if url.partition(":")[0] not in _STORE_SCHEMES or not url.partition(":")[2].startswith("//"):
        return 'the URL in it must be "postgresql://user:password@host/database?sslmode=verify-full"'
    end = _authority_end(url)
    if "@" in url.partition("//")[2][end:] or url.partition("//")[2][:end].count("@") > 1:
        return "the password in it ends early, or a value has a bare @: write / as %2F, ? as %3F, # as %23, @ as %40"
    return ""
