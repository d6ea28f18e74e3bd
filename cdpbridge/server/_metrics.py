"""Metrics for Prometheus. Events are counted as they happen; states are read when a monitor asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from cdpbridge._lifecycle import EndReason
from cdpbridge.server.gateway import Usage
from cdpbridge.server.limits import Machine

__all__ = ["METRICS_CONTENT_TYPE", "Metrics", "Moment"]

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

# A warm headless shell is there in 0.1 s; a full build with a profile on a busy machine takes seconds.
_START_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
_LIFE_BUCKETS: Final = (60, 300, 900, 1800, 3600, 7200, 14400)
_ANSWER_BUCKETS: Final = (0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)


@dataclass(frozen=True, slots=True)
class Moment:
    """The states of one instant.

    Attributes:
        browsers: Number by state.
        usage: What clients do on the gateway, with what they did before.
        booked: USD by kind of ledger entry, over all projects and for all time.
        machine: What is left of it.
        accepting: Whether a new browser would be started.
    """

    browsers: Mapping[str, int]
    usage: Usage
    booked: Mapping[str, Decimal]
    machine: Machine
    accepting: bool


class Metrics:
    """The server's counters. No label holds an id, a key or an address."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._moment: Moment | None = None
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._started = Histogram(
            "cdpbridge_browser_start_seconds",
            "From the order to a browser that answers.",
            buckets=_START_BUCKETS,
            registry=self._registry,
        )
        self._failed = Counter(
            "cdpbridge_browser_start_failures",
            "Orders that ended without a browser, and without a charge.",
            registry=self._registry,
        )
        self._ended = Histogram(
            "cdpbridge_browser_used_seconds",
            "How long browsers were used, by why they ended.",
            ["reason"],
            buckets=_LIFE_BUCKETS,
            registry=self._registry,
        )
        for reason in EndReason:
            self._ended.labels(reason)
        self._answers = Histogram(
            "cdpbridge_http_request_seconds",
            "REST requests by route and status.",
            ["method", "route", "status"],
            buckets=_ANSWER_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(self)

    def started(self, took: timedelta) -> None:
        """Count a browser that runs and is charged."""
        self._started.observe(took.total_seconds())

    def start_failed(self) -> None:
        """Count an order that ended without a browser."""
        self._failed.inc()

    def ended(self, reason: EndReason, used: timedelta) -> None:
        """Count a browser that has ended."""
        self._ended.labels(reason).observe(used.total_seconds())

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the pattern, not the path: ids would make a series each."""
        self._answers.labels(method, route, str(status)).observe(seconds)

    def text(self, moment: Moment) -> bytes:
        """Return everything, in the format of `METRICS_CONTENT_TYPE`."""
        self._moment = moment
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Return the states of the last moment, for the registry."""
        moment = self._moment
        if moment is None:
            return
        browsers = GaugeMetricFamily("cdpbridge_browsers", "Browsers that are not stopped.", labels=["state"])
        for state, number in moment.browsers.items():
            browsers.add_metric([state], number)
        yield browsers
        yield GaugeMetricFamily(
            "cdpbridge_accepting",
            "1 when a new browser would be started; /pressure says why not.",
            moment.accepting,
        )
        yield GaugeMetricFamily(
            "cdpbridge_gateway_clients", "WebSockets open between clients and browsers.", moment.usage.clients
        )
        messages = CounterMetricFamily(
            "cdpbridge_gateway_messages", "Messages relayed, by who sent them.", labels=["sender"]
        )
        messages.add_metric(["client"], moment.usage.messages_sent)
        messages.add_metric(["browser"], moment.usage.messages_received)
        yield messages
        booked = GaugeMetricFamily(
            "cdpbridge_ledger_usd",
            "Sum of the ledger by kind of entry; charges are negative.",
            labels=["kind"],
        )
        for kind, amount in moment.booked.items():
            booked.add_metric([kind], float(amount))
        yield booked
        machine = moment.machine
        yield GaugeMetricFamily(
            "cdpbridge_machine_load_per_cpu", "Runnable threads per processor.", machine.load_per_cpu
        )
        yield GaugeMetricFamily(
            "cdpbridge_machine_memory_available_bytes",
            "Memory that can still be taken.",
            machine.memory_available,
        )
        yield GaugeMetricFamily(
            "cdpbridge_machine_disk_free_bytes", "Where the data folder is.", machine.disk_free
        )
