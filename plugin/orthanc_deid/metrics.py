"""The metrics, read from the ledger when somebody asks; labels are projects, states, reasons and destinations only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from orthanc_deid.store import Store, deliveries, knowledge, ledger


class _Collector:
    def __init__(self, store: Store, health: Mapping[str, Any]) -> None:
        self._store = store
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with self._store.read() as conn:
            counts, reasons, sends = ledger.counts(conn), ledger.reasons(conn), deliveries.counts(conn)
            late = knowledge.late(conn)
        instances = GaugeMetricFamily("deid_instances", "Instances in the ledger", labels=["project", "state"])
        for project, states in counts.items():
            for state, number in states.items():
                instances.add_metric([project, state], number)
        yield instances
        parked = GaugeMetricFamily(
            "deid_parked", "Instances that did not pass, by reason", labels=["project", "reason"]
        )
        for project, numbers in reasons.items():
            for reason, number in numbers.items():
                parked.add_metric([project, reason], number)
        yield parked
        behind = GaugeMetricFamily(
            "deid_late_values",
            "Outputs that had left when another value of their subject was learnt",
            labels=["project"],
        )
        for project in counts:
            behind.add_metric([project], late.get(project, 0))
        yield behind
        sent = GaugeMetricFamily(
            "deid_deliveries", "Deliveries by destination and state", labels=["project", "destination", "state"]
        )
        for project, destinations in sends.items():
            for destination, states in destinations.items():
                for state, number in states.items():
                    sent.add_metric([project, destination, state], number)
        yield sent
        health = self._health
        yield GaugeMetricFamily("deid_backlog_instances", "Instances that wait for a worker", value=health["Backlog"])
        yield GaugeMetricFamily(
            "deid_oldest_seconds", "Age of the oldest instance without an outcome", value=health["OldestSeconds"]
        )
        workers = health["Workers"]
        yield GaugeMetricFamily("deid_workers_alive", "Worker processes that live", value=workers["Alive"])
        yield CounterMetricFamily("deid_worker_restarts", "Worker processes that died", value=workers["Restarts"])
        yield GaugeMetricFamily("deid_troubles", "Parts of the service that do not work", value=len(health["Troubles"]))


def render(store: Store, health: Mapping[str, Any]) -> bytes:
    """Return the metrics in Prometheus' text format; `health` is what the service says of itself."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(store, health))
    return generate_latest(registry)
