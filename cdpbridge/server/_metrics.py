"""Metrics for Prometheus. Events are counted as they happen; states are read when a monitor asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._lifecycle import EndReason

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric

    from cdpbridge.server._cluster import Capacity
    from cdpbridge.server.gateway import Usage
    from cdpbridge.server.limits import Machine

__all__ = ["Metrics", "Moment"]

# A warm headless shell is there in 0.1 s; a full build with a profile on a busy machine takes seconds.
_START_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
_LIFE_BUCKETS: Final = (60, 300, 900, 1800, 3600, 7200, 14400)
_ANSWER_BUCKETS: Final = (0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)


@dataclass(frozen=True, slots=True)
class Moment:
    """The states of one instant.

    Attributes:
        browsers: Number by state.
        ready: Number of those that wait for an order.
        waiting: Orders that wait for their turn to start or for a slot: this server's, or, on workers, all.
        capacity: What the workers have; None where browsers run on the server's machine.
        engine: What starts workers, as `Engine.report` has it; None where this server has none.
        usage: What clients do on the gateway, with what they did before.
        booked: USD by kind of ledger entry, over all projects and for all time.
        machine: What is left of it.
        accepting: Whether a new browser would be started.
    """

    browsers: Mapping[str, int]
    ready: int
    waiting: int
    capacity: Capacity | None
    engine: Mapping[str, Any] | None
    usage: Usage
    booked: Mapping[str, Decimal]
    machine: Machine
    accepting: bool


class _Durations:
    """A histogram for each combination of labels, in plain numbers: Prometheus' library is loaded by the first monitor that asks.

    Args:
        name: Of the metric.
        meaning: One line for people.
        bounds: Upper ends of the buckets, in seconds; one without an end follows.
        labels: Their names.
    """

    def __init__(self, name: str, meaning: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds = bounds
        self._labels = labels
        # By the labels' values: how many were in each bucket, and the sum of all.
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def show(self, *labels: str) -> None:
        """Show a combination of labels before its first observation, too."""
        self._counts[labels] = [0] * (len(self._bounds) + 1)
        self._sums[labels] = 0.0

    def observe(self, seconds: float, *labels: str) -> None:
        if labels not in self._counts:
            self.show(*labels)
        self._counts[labels][bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def family(self) -> HistogramMetricFamily:
        """Return it as Prometheus' library knows it."""
        from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415  # see the class

        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, counts in self._counts.items():
            upto = accumulate(counts)
            family.add_metric(labels, list(zip(names, upto, strict=True)), self._sums[labels])
        return family


class Metrics:
    """The server's counters. No label holds an id, a key or an address."""

    def __init__(self) -> None:
        self._started = _Durations(
            "cdpbridge_browser_start_seconds",
            "From the order to a browser that answers.",
            _START_BUCKETS,
        )
        self._started.show()
        self._failed = 0
        self._ended = _Durations(
            "cdpbridge_browser_used_seconds",
            "How long browsers were used, by why they ended.",
            _LIFE_BUCKETS,
            ["reason"],
        )
        for reason in EndReason:
            self._ended.show(reason)
        self._answers = _Durations(
            "cdpbridge_http_request_seconds",
            "REST requests by route and status.",
            _ANSWER_BUCKETS,
            ["method", "route", "status"],
        )

    def started(self, took: timedelta) -> None:
        """Count a browser that runs and is charged."""
        self._started.observe(took.total_seconds())

    def start_failed(self) -> None:
        """Count an order that ended without a browser."""
        self._failed += 1

    def ended(self, reason: EndReason, used: timedelta) -> None:
        """Count a browser that has ended."""
        self._ended.observe(used.total_seconds(), reason)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the pattern, not the path: ids would make a series each."""
        self._answers.observe(seconds, method, route, str(status))

    def text(self, moment: Moment) -> tuple[bytes, str]:
        """Return everything in Prometheus' format, and the content type of that."""
        from prometheus_client import (  # noqa: PLC0415  # a server is rarely asked for it
            CollectorRegistry,
            PlatformCollector,
            ProcessCollector,
            generate_latest,
        )
        from prometheus_client.exposition import CONTENT_TYPE_LATEST  # noqa: PLC0415  # as above

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_Collected([*self._counted(), *_states(moment)]))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _counted(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415  # as above

        yield self._started.family()
        yield CounterMetricFamily(
            "cdpbridge_browser_start_failures",
            "Orders that ended without a browser, and without a charge.",
            self._failed,
        )
        yield self._ended.family()
        yield self._answers.family()


class _Collected:
    """Metrics of one moment, for a registry."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _states(moment: Moment) -> Iterable[Metric]:
    """Return the states of a moment."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  # as above

    browsers = GaugeMetricFamily("cdpbridge_browsers", "Browsers that are not stopped.", labels=["state"])
    for state, number in moment.browsers.items():
        browsers.add_metric([state], number)
    yield browsers
    yield GaugeMetricFamily(
        "cdpbridge_ready_browsers", "Browsers that run and wait for orders to come.", moment.ready
    )
    yield GaugeMetricFamily(
        "cdpbridge_waiting_orders", "Orders that wait for their turn, or for a slot.", moment.waiting
    )
    if moment.capacity is not None:
        yield from _capacity(moment.capacity)
    if moment.engine is not None:
        yield from _engine(moment.engine)
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


def _capacity(capacity: Capacity) -> Iterable[Metric]:
    """Return what the workers have: every server of the cluster says the same."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # as above

    workers = GaugeMetricFamily("cdpbridge_workers", "Workers of the cluster.", labels=["state"])
    workers.add_metric(["accepting"], capacity.workers)
    workers.add_metric(["draining"], capacity.draining)
    yield workers
    slots = GaugeMetricFamily(
        "cdpbridge_worker_slots", "Slots of the workers of the cluster.", labels=["state"]
    )
    slots.add_metric(["free"], capacity.free)
    slots.add_metric(["running"], capacity.running - capacity.starting)
    slots.add_metric(["starting"], capacity.starting)
    yield slots


def _engine(report: Mapping[str, Any]) -> Iterable[Metric]:
    """Return what the engine has: every server of the cluster with one says the same."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # as above

    yield GaugeMetricFamily(
        "cdpbridge_engine_up",
        "1 while what starts workers answers, e.g. Ray's head.",
        report["state"] == "running",
    )
    workers = GaugeMetricFamily(
        "cdpbridge_engine_workers", "Workers that the engine is to have, and that it has.", labels=["state"]
    )
    for state in ("wanted", "pending", "starting", "running", "draining"):
        if report[state] is not None:
            workers.add_metric([state], report[state])
    yield workers
