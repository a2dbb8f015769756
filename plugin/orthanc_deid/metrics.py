"""The metrics, read from the ledger when somebody asks; labels are projects, states, reasons and destinations only.

All of it comes from counters that the database keeps (store.counting), so asking costs the same however long the ledger
is, and what is counted goes on where it was after a restart. docs/operations.md has a table of them, docs/alerts.yml
rules; tests hold both to what stands here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from orthanc_deid.store import Store, counting, deliveries, knowledge, ledger
from orthanc_deid.store.rows import STATES


class _Collector:
    def __init__(self, store: Store, health: Mapping[str, Any], projects: Collection[str]) -> None:
        self._store = store
        self._health = health
        self._projects = projects

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with self._store.read() as conn:
            counts, reasons, sends = ledger.counts(conn), ledger.reasons(conn), deliveries.counts(conn)
            late, events = knowledge.late(conn), counting.events(conn)
            oldest = {project: ledger.oldest_unfinished(conn, project) for project in counts}
        instances = GaugeMetricFamily("deid_instances", "Instances in the ledger", labels=["project", "state"])
        for project, states in counts.items():
            for state, number in states.items():
                instances.add_metric([project, state], number)
        yield instances
        came = CounterMetricFamily("deid_events", "How often instances came into a state", labels=["project", "state"])
        # What never happened, too: Prometheus sees no increase where a series begins.
        for project in sorted({*self._projects, *events}):
            for state in sorted(STATES):
                came.add_metric([project, state], events.get(project, {}).get(state, 0))
        yield came
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
        backlog = GaugeMetricFamily("deid_backlog_instances", "Instances that wait for a worker", labels=["project"])
        age = GaugeMetricFamily(
            "deid_oldest_seconds", "Age of the oldest instance without an outcome", labels=["project"]
        )
        now = time.time()
        for project, states in counts.items():
            backlog.add_metric([project], sum(states.get(state, 0) for state in ("queued", "working")))
            age.add_metric([project], max(0.0, now - (oldest[project] or now)))
        yield from (backlog, age)
        yield from _destinations(sends, health)
        workers = health["Workers"]
        yield GaugeMetricFamily("deid_workers_alive", "Worker processes that live", value=workers["Alive"])
        yield CounterMetricFamily("deid_worker_restarts", "Worker processes that died", value=workers["Restarts"])
        if gateway := health.get("Gateway"):
            yield from _of_gateway(gateway)
        flow = health["Flow"]
        yield GaugeMetricFamily("deid_yield_stage", "How far work gives way to Orthanc; 0: not", value=flow["Stage"])
        yield GaugeMetricFamily(
            "deid_orthanc_seconds", "How long a small request to Orthanc takes", value=flow["LatencySeconds"]
        )
        yield GaugeMetricFamily("deid_outbox_bytes", "Outputs on their way", value=flow["OutboxBytes"])
        yield GaugeMetricFamily("deid_paused", "Whether outbox or disk is full", value=bool(flow["Paused"]))
        waits = GaugeMetricFamily(
            "deid_destination_waits", "Destinations that wait for their window", labels=["destination"]
        )
        for destination in health["DestinationsWaiting"]:
            waits.add_metric([destination], 1)
        yield waits
        shut = GaugeMetricFamily(
            "deid_backfill_waits", "Whether a project's window for its back-fill is shut", labels=["project"]
        )
        for project in sorted(self._projects):
            shut.add_metric([project], project in flow["BackfillWaits"])
        yield shut
        yield GaugeMetricFamily("deid_troubles", "Parts of the service that do not work", value=len(health["Troubles"]))
        tasks = GaugeMetricFamily("deid_tasks", "Tasks that run, by kind", labels=["kind"])
        for kind, number in health["Tasks"].items():
            tasks.add_metric([kind], number)
        yield tasks
        orthanc = health["Orthanc"]
        yield CounterMetricFamily(
            "deid_orthanc_requests", "Requests of the service that Orthanc answered", value=orthanc["Answers"]
        )
        yield CounterMetricFamily(
            "deid_orthanc_seconds", "What these requests took, transfer included", value=orthanc["Seconds"]
        )
        yield GaugeMetricFamily(
            "deid_reconciled_timestamp_seconds", "When all instances were compared last", value=health["LastReconciled"]
        )
        yield GaugeMetricFamily(
            "deid_outbox_instances",
            "Outputs in the outbox: verified, and not confirmed yet",
            value=sum(states.get(state, 0) for states in counts.values() for state in ("ready", "released")),
        )
        free = GaugeMetricFamily("deid_disk_free_bytes", "Room on the disk of a folder", labels=["place"])
        for place, number in health["Free"].items():
            free.add_metric([place], number)
        yield free
        yield GaugeMetricFamily("deid_database_bytes", "Size of the database", value=self._store.size())


def _destinations(sends: Mapping[str, Mapping[str, Any]], health: Mapping[str, Any]) -> Iterator[Metric]:
    """Say of each destination that something was ever for whether it answers."""
    up = GaugeMetricFamily(
        "deid_destination_up", "Whether a destination answered when last tried", labels=["destination"]
    )
    down = set(health["PeersDown"])
    for name in sorted({name for destinations in sends.values() for name in destinations} | down):
        up.add_metric([name], 0.0 if name in down else 1.0)
    yield up


def _of_gateway(gateway: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily("deid_spool_bytes", "Size of the spool of gateway mode", value=gateway["Size"])
    yield GaugeMetricFamily("deid_spool_maximum_bytes", "Size that it may have", value=gateway["MaximumSize"])
    files = GaugeMetricFamily("deid_spool_files", "Files in the spool, by where they stand", labels=["part"])
    for part, number in gateway["Files"].items():
        files.add_metric([part], number)
    yield files
    unmatched = GaugeMetricFamily("deid_spool_unmatched", "Originals that no project takes", labels=["reason"])
    for reason, number in gateway["Unmatched"].items():
        unmatched.add_metric([reason], number)
    yield unmatched
    yield CounterMetricFamily("deid_spool_discarded", "Originals that were discarded", value=gateway["Discarded"])
    yield CounterMetricFamily(
        "deid_spool_refused", "Instances that senders have to send again", value=gateway["Refused"]
    )


def render(store: Store, health: Mapping[str, Any], projects: Collection[str]) -> bytes:
    """Return the metrics in Prometheus' text format; `health` is what the service says of itself, `projects` are those
    of the configuration."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(store, health, projects))
    return generate_latest(registry)
