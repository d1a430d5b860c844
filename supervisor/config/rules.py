"""Rules for the values of one section, alone and together: one table a section. Pure.

A rule is asked only when none of its keys is wrong already; its problem is shown at its first key. Rules across
sections are in `cross_checks.py`; what needs the machine or the broker to answer belongs to `preforkd check`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from supervisor.config import schema
from supervisor.config.functions import function_hint, is_function, wrong_names
from supervisor.config.keys import keys_of
from supervisor.config.report import Place, Report, did_you_mean
from supervisor.logs.events import Cause
from supervisor.messages.publications import checked_name, checked_table
from supervisor.quantities import show_limit, show_seconds

Judge = Callable[[Any], str]
"""The problem of a section; "" for none."""

LONGEST_DELAY_S = 7 * 86400.0
"""The last step of the delay ladder (supervisor/brokers/names.py): a longer delay cannot be kept."""

_MAX_PREFETCH = 65_535  # a short in basic.qos, AMQP 0-9-1
_MAX_QUEUE_BYTES = 255 - len(".retry.604800000")  # AMQP's short string, less the longest name we derive
_MAX_HEADER_BYTES = 255  # AMQP's short string
MAX_WORKERS = 10_000
_HEARTBEAT_S = (1.0, 300.0)
_URL_SCHEMES = ("amqp", "amqps")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.IGNORECASE)
MIN_TOKEN_CHARACTERS = 16


class Rule(msgspec.Struct, frozen=True):
    """`keys`: the keys that it reads; the first is reported. `hint`: what to do about it."""

    keys: tuple[str, ...]
    judge: Judge
    hint: str | Judge = ""


def apply_rules(section: msgspec.Struct, place: Place, report: Report) -> None:
    """Report every rule of the section's table that it breaks."""
    if report.wrong_itself(place):
        return
    keys = keys_of(type(section))
    for rule in RULES.get(type(section), ()):
        if any(report.wrong((*place, key)) for key in rule.keys):
            continue
        if reason := rule.judge(section):
            key = keys[rule.keys[0]]
            value = getattr(section, key.field)
            hint = rule.hint if isinstance(rule.hint, str) else rule.hint(section)
            default = key.show(value) if value == key.default else ""
            report.add((*place, key.name), reason, hint, default)


def _when(broken: Callable[[Any], object], reason: str) -> Judge:
    return lambda section: reason if broken(section) else ""


def _one_of(name: str, *words: str) -> Rule:
    reason = f"must be one of {', '.join(words)}"
    return Rule(
        (name,),
        lambda section: "" if getattr(section, name) in words else reason,
        lambda section: did_you_mean(getattr(section, name), words),
    )


def _between(name: str, least: float, most: float) -> Rule:
    return Rule(
        (name,),
        lambda section: "" if least <= getattr(section, name) <= most else f"must be from {least:,} to {most:,}",
    )


def _at_least(name: str, least: int) -> Rule:
    return Rule((name,), _when(lambda section: getattr(section, name) < least, f"must be at least {least}"))


def _above_zero(name: str) -> Rule:
    return Rule((name,), _when(lambda section: getattr(section, f"{name}_s") <= 0, "must be more than 0"))


def _given(name: str) -> Rule:
    return Rule((name,), _when(lambda section: not getattr(section, name), "must not be empty"))


def _count_within(name: str) -> Rule:
    return Rule((name,), _when(lambda section: min(getattr(section, name)) <= 0, "both must be more than 0"))


def _raised(check: Callable[..., object], *values: Any) -> str:
    """The text of the ValueError that `check(*values)` raises; "" for none."""
    try:
        check(*values)
    except ValueError as error:
        return str(error)
    return ""


# ---- broker -------------------------------------------------------------------------------------------------------


def _bad_urls(broker: schema.BrokerConfig) -> str:
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


def _heartbeat(broker: schema.BrokerConfig) -> str:
    least, most = _HEARTBEAT_S
    if least <= broker.heartbeat_s <= most and broker.heartbeat_s == int(broker.heartbeat_s):
        return ""
    return f"must be whole seconds from {show_seconds(least)} to {show_seconds(most)}"


# ---- pools --------------------------------------------------------------------------------------------------------


def _function(name: str, optional: bool = False) -> Rule:
    def bad(pool: schema.PoolConfig) -> bool:
        text = getattr(pool, name)
        return not (is_function(text) or (optional and not text))

    reason = 'must be "module:function", such as "myapp.email:send"'
    return Rule((name,), _when(bad, reason), lambda pool: function_hint(getattr(pool, name)))


def _bad_middleware(pool: schema.PoolConfig) -> str:
    wrong = wrong_names(pool.middleware)
    return f'{wrong[0]!r} must be "module:Class", each only once, such as "myapp.middleware:Locale"' if wrong else ""


def _bad_queue(pool: schema.PoolConfig) -> str:
    if not pool.queue:
        return "must not be empty"
    if pool.queue.startswith("amq."):
        return "names that begin with amq. belong to the broker"
    if len(pool.queue.encode()) > _MAX_QUEUE_BYTES:
        return f"must not be longer than {_MAX_QUEUE_BYTES} bytes"
    return ""


def _bad_header(pool: schema.PoolConfig) -> str:
    for name in pool.transport_headers:
        if not name.removesuffix("*") or "*" in name[:-1]:
            return f'{name!r} is no header\'s name; a * may stand at its end only, as in "x-acme-*"'
        if len(name.encode()) > _MAX_HEADER_BYTES:
            return f"names are at most {_MAX_HEADER_BYTES} bytes long"
    return ""


def _bad_delays(pool: schema.PoolConfig) -> str:
    if not pool.retry_delays_s:
        return "must name at least one delay"
    if not all(0 < delay_s <= LONGEST_DELAY_S for delay_s in pool.retry_delays_s):
        return f"each delay must be more than 0 and at most {show_seconds(LONGEST_DELAY_S)}"
    return ""


def _timeout_of(pool: schema.PoolConfig) -> str:
    return f"timeout = {show_limit(pool.timeout_s)}"


def _bad_backoff(pool: schema.PoolConfig) -> str:
    first_s, cap_s = pool.restart_backoff_s
    return "" if 0 < first_s <= cap_s else "the first must be more than 0 and not above the second, the cap"


def _bad_arguments(pool: schema.PoolConfig) -> str:
    try:
        plain = checked_table("queue_arguments", pool.queue_arguments)
    except ValueError as error:
        return str(error)
    odd = [name for name, value in pool.queue_arguments.items() if type(plain[name]) is not type(value)]
    return f"{odd[0]!r} has a value of a type that AMQP does not have" if odd else ""


def _amqp_name(key: str) -> Rule:
    return Rule((key,), lambda binding: _raised(checked_name, key, getattr(binding, key)))


# ---- web and hooks ------------------------------------------------------------------------------------------------


def _bad_listen(web: schema.WebConfig) -> str:
    try:
        host, port = web.address if web.listen else ("", 0)
    except ValueError:
        return 'must be host:port, such as "127.0.0.1:9750" or "[::1]:9750"'
    if web.listen and not host:
        return "names no address: write 127.0.0.1:PORT, or 0.0.0.0:PORT for all addresses"
    return "" if 0 <= port <= 65_535 else "the port must be at most 65535"


def _open_to_all(web: schema.WebConfig) -> str:
    if not web.listen or web.has_token or is_loopback(web.address[0]):
        return ""
    return "is not a loopback address, so other machines can reach it: that needs token_file, or token"


def bad_token(text: str) -> str:
    """What is wrong with the `text` as a token; "" if nothing is. A token fits into the header Authorization."""
    if len(text) < MIN_TOKEN_CHARACTERS:
        return f"must have at least {MIN_TOKEN_CHARACTERS} characters"
    fits = text.isascii() and text.isprintable() and " " not in text
    return "" if fits else "must be one line of ASCII characters, without blanks"


def _bad_hosts(web: schema.WebConfig) -> str:
    odd = next((name for name in web.allowed_hosts if not _HOST.fullmatch(name)), None)
    return (
        "" if odd is None else f'{odd!r} is no host name: write it without scheme and port; "*.name" for all below it'
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` may be anything."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _command(name: str) -> Rule:
    return Rule((name,), lambda hooks: _bad_command(getattr(hooks, name)), "for a shell write sh -c '…'")


def _bad_command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        return f"cannot be split into words: {str(error).lower()}"
    return "" if words or not text else "contains no program"


def _bad_webhook(hooks: schema.HooksConfig) -> str:
    try:
        parts = urlsplit(hooks.webhook)
        parts.port  # noqa: B018  (raises ValueError for a port that is none)
    except ValueError:
        return "not a URL"
    if not hooks.webhook or (parts.scheme in ("http", "https") and parts.hostname):
        return "" if hooks.webhook.isprintable() and " " not in hooks.webhook else "not a URL: it contains a blank"
    return 'must be "https://host/…" (or "http://…")'


def _unknown_causes(hooks: schema.HooksConfig) -> list[str]:
    return [word for word in hooks.causes if word not in set(Cause)]


def _bad_causes(hooks: schema.HooksConfig) -> str:
    unknown = _unknown_causes(hooks)
    return f'there is no cause "{unknown[0]}": docs/exits.md has them all' if unknown else ""


RULES: dict[type[msgspec.Struct], tuple[Rule, ...]] = {
    schema.DaemonConfig: (
        _given("state_dir"),
        _given("runtime_dir"),
        Rule(("group", "user"), _when(lambda daemon: daemon.group and not daemon.user, "needs a user, too")),
    ),
    schema.LogConfig: (
        _one_of("level", "debug", "info", "warning", "error"),
        _one_of("format", "auto", "json", "console"),
        _given("file"),
    ),
    schema.BrokerConfig: (
        Rule(("url",), _bad_urls),
        Rule(("heartbeat",), _heartbeat),
        _above_zero("blocked_timeout"),
        _above_zero("ack_timeout"),
    ),
    schema.TlsConfig: (
        Rule(
            ("cert_file", "key_file"),
            _when(lambda tls: bool(tls.cert_file) != bool(tls.key_file), "go together with key_file"),
            "give both or none",
        ),
    ),
    schema.LedgerConfig: (
        _one_of("sync", "full", "normal"),
        _above_zero("keep"),
        _at_least("keep_max", 1),
        _one_of("dedupe", "keep", "redelivery"),
    ),
    schema.WebConfig: (
        Rule(("listen",), _bad_listen),
        Rule(
            ("listen", "token_file", "token"),
            lambda web: "" if _bad_listen(web) else _open_to_all(web),
            "or 127.0.0.1",
        ),
        Rule(("token",), lambda web: bad_token(web.token) if web.token else "", "openssl rand -hex 16 makes one"),
        Rule(
            ("token", "token_file"),
            _when(lambda web: bool(web.token and web.token_file), "and token_file are both given"),
            "keep one of the two",
        ),
        Rule(("allowed_hosts",), _bad_hosts),
    ),
    schema.HooksConfig: (
        *(_command(name) for name in ("on_exit", "on_hold", "on_dead")),
        Rule(("webhook",), _bad_webhook),
        Rule(("causes",), _bad_causes, lambda hooks: did_you_mean(_unknown_causes(hooks)[0], list(Cause))),
        _count_within("rate"),
        _above_zero("timeout"),
    ),
    schema.Binding: (_given("exchange"), _amqp_name("exchange"), _amqp_name("routing_key")),
    schema.PoolConfig: (
        Rule(("queue",), _bad_queue),
        _function("handler"),
        _function("init", optional=True),
        Rule(("middleware",), _bad_middleware, lambda pool: function_hint(wrong_names(pool.middleware)[0])),
        _between("workers", 1, MAX_WORKERS),
        _between("prefetch", 1, _MAX_PREFETCH),
        _above_zero("timeout"),
        Rule(
            ("soft_timeout", "timeout"),
            lambda pool: "" if not pool.soft_timeout_s >= pool.timeout_s > 0 else f"must be below {_timeout_of(pool)}",
            '"" turns it off',
        ),
        Rule(
            ("max_timeout", "timeout"),
            lambda pool: "" if pool.max_timeout_s >= pool.timeout_s else f"must not be below {_timeout_of(pool)}",
            lambda pool: f"lower timeout, or set max_timeout to at least {show_seconds(pool.timeout_s)}",
        ),
        _above_zero("kill_grace"),
        _at_least("max_attempts", 1),
        Rule(("retry_delays",), _bad_delays),
        Rule(("transport_headers",), _bad_header),
        _one_of("on_crash", "retry", "park", "inbox"),
        _at_least("max_messages", 0),
        Rule(
            ("max_memory", "kill_memory"),
            _when(lambda pool: 0 < pool.kill_memory_bytes <= pool.max_memory_bytes, "must be below kill_memory"),
            '"" turns either off',
        ),
        Rule(("restart_backoff",), _bad_backoff),
        _count_within("restart_intensity"),
        _above_zero("hold_retry"),
        _above_zero("boot_timeout"),
        _one_of("missing_id", "run", "dead_letter"),
        _between("consumer_priority", -(2**31), 2**31 - 1),
        Rule(
            ("queue_arguments",),
            _when(
                lambda pool: pool.queue_arguments.get("x-queue-type") == "stream",
                "a stream has no acknowledgements that delete a message",
            ),
            "use a quorum or classic queue",
        ),
        Rule(("queue_arguments",), _bad_arguments),
    ),
}
