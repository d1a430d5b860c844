"""Metrics for Prometheus: the status object (docs/control-protocol.md) in its text format. Pure.

No state is kept between two scrapes, so a removed pool has no metrics, and several readers do not disturb each other.
This folder alone imports prometheus_client, which the extra `metrics` brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from supervisor.control.results import PoolStatus, Status
from supervisor.metrics.families import OF_A_POOL, OF_THE_DAEMON, Family, Metric, Sample, T

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of `render`'s result."""


def render(status: Status) -> bytes:
    """The metrics of a daemon with this status object (docs/control-protocol.md)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    """The collector that prometheus_client calls."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Every family, in the table's order."""
        for name, family in OF_THE_DAEMON.items():
            yield _metric(name, family, family.labels, family.read(self._status))
        for name, each in OF_A_POOL.items():
            yield _metric(name, each, ("pool", *each.labels), self._of_pools(each))

    def _of_pools(self, family: Family[PoolStatus]) -> Iterator[Sample]:
        for name, pool in self._status.pools.items():
            yield from (((name, *labels), value) for labels, value in family.read(pool))


def _metric(name: str, family: Family[T], labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    metric = family.type(name, family.meaning, labels=labels)
    for values, value in samples:
        if isinstance(metric, HistogramMetricFamily):
            bounds = [*map(floatToGoString, value.le), "+Inf"]
            metric.add_metric(values, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
        else:
            metric.add_metric(values, value)
    return metric
