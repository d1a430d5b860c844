"""Middleware of a pool: what it does around each run. An object of each class is made in each worker, after `init`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from supervisor import Message, Reject

tenant: ContextVar[str] = ContextVar("tenant")

log = logging.getLogger("around")


class Timed:
    """Logs how long each run takes, however it ends."""

    @contextmanager
    def around(self, message: Message) -> Iterator[None]:
        begun_s = monotonic()
        try:
            yield
        finally:
            log.info("took %.0f ms", (monotonic() - begun_s) * 1000)


class OfTenant:
    """Gives the handler its tenant, for this run alone; a message without one cannot succeed."""

    @contextmanager
    def around(self, message: Message) -> Iterator[None]:
        if "tenant" not in message.headers:
            raise Reject("the header `tenant` is missing")
        former = tenant.set(message.headers["tenant"])
        try:
            yield
        finally:
            tenant.reset(former)

    def failed(self, message: Message, error: BaseException) -> None:
        log.warning("a run for %s failed: %r", message.headers.get("tenant", "no tenant"), error)
