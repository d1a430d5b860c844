"""The rules of [pools.NAME]. Pure."""

from __future__ import annotations

from supervisor.config import schema
from supervisor.config.functions import function_hint, is_function, wrong_names
from supervisor.config.rule_kinds import Rule, above_zero, at_least, between, count_within, given, one_of, raised, when
from supervisor.messages.publications import checked_name, checked_table
from supervisor.quantities import show_limit, show_seconds

LONGEST_DELAY_S = 7 * 86400.0
"""The last step of the delay ladder (supervisor/brokers/names.py): a longer delay cannot be kept."""

MAX_WORKERS = 10_000
_MAX_PREFETCH = 65_535  # a short in basic.qos, AMQP 0-9-1
_MAX_QUEUE_BYTES = 255 - len(".retry.604800000")  # AMQP's short string, less the longest name we derive
_MAX_HEADER_BYTES = 255  # AMQP's short string


def _function(name: str, optional: bool = False) -> Rule:
    def bad(pool: schema.PoolConfig) -> bool:
        text = getattr(pool, name)
        return not (is_function(text) or (optional and not text))

    reason = 'must be "module:function", such as "myapp.email:send"'
    return Rule((name,), when(bad, reason), lambda pool: function_hint(getattr(pool, name)))


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
    return Rule((key,), lambda binding: raised(checked_name, key, getattr(binding, key)))


POOL_RULES = (
    Rule(("queue",), _bad_queue),
    _function("handler"),
    _function("init", optional=True),
    Rule(("middleware",), _bad_middleware, lambda pool: function_hint(wrong_names(pool.middleware)[0])),
    between("workers", 1, MAX_WORKERS),
    between("prefetch", 1, _MAX_PREFETCH),
    above_zero("timeout"),
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
    above_zero("kill_grace"),
    at_least("max_attempts", 1),
    Rule(("retry_delays",), _bad_delays),
    Rule(("transport_headers",), _bad_header),
    one_of("on_crash", "retry", "park", "inbox"),
    at_least("max_messages", 0),
    Rule(
        ("max_memory", "kill_memory"),
        when(lambda pool: 0 < pool.kill_memory_bytes <= pool.max_memory_bytes, "must be below kill_memory"),
        '"" turns either off',
    ),
    Rule(("restart_backoff",), _bad_backoff),
    count_within("restart_intensity"),
    above_zero("hold_retry"),
    above_zero("boot_timeout"),
    one_of("missing_id", "run", "dead_letter"),
    between("consumer_priority", -(2**31), 2**31 - 1),
    Rule(
        ("queue_arguments",),
        when(
            lambda pool: pool.queue_arguments.get("x-queue-type") == "stream",
            "a stream has no acknowledgements that delete a message",
        ),
        "use a quorum or classic queue",
    ),
    Rule(("queue_arguments",), _bad_arguments),
)
"""Those of a pool."""

BINDING_RULES = (given("exchange"), _amqp_name("exchange"), _amqp_name("routing_key"))
"""Those of one entry of `bindings`."""
