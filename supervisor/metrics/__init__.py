"""Metrics for Prometheus, made of the status object (docs/control-protocol.md). Pure.

The only place that imports prometheus_client, which the extra `preforkd[metrics]` brings.
"""

from __future__ import annotations

from supervisor.metrics.exposition import CONTENT_TYPE, render

__all__ = ["CONTENT_TYPE", "render"]
