"""What Prometheus asks for: requests, refusals and jobs as they were, the crew and what waits as they are.

Why so: docs/decisions/189.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cameo.errors import OutputError
from cameo.jobs.job import Backlog
from cameo.server.exchange import Exchange
from cameo.workers.breaker import CLOSED, HALF_OPEN, OPEN
from cameo.workers.calls import PARTS, State

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)


class Metrics:
    """The metrics of one server; `state` tells those of its crew, `held_bytes` what of uploads is inside."""

    def __init__(self, state: Callable[[], State], held_bytes: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Crew(state, held_bytes))
        self._requests = self._counter("cameo_requests", "answers, by status", "route", "model", "status")
        self._refusals = self._counter("cameo_refusals", "requests without a result, by reason", "model", "reason")
        self._faces = self._counter("cameo_faces", "faces that were worked on", "model")
        self._latency = self._histogram("cameo_request_seconds", "from a request's head to its result", "model")
        self._parts = self._histogram("cameo_call_seconds", "of each part of a call", "model", "part")
        self._jobs_taken = self._counter("cameo_jobs_taken", "jobs that were accepted", "model")
        self._jobs_ended = self._counter("cameo_jobs_ended", "jobs that are over, by outcome", "model", "outcome")
        self._job_photos = self._counter("cameo_job_photos", "photos of jobs that ran, by outcome", "model", "outcome")

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self._registry)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(name, help, labels, registry=self._registry, buckets=_SECONDS)

    def note(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        model = exchange.model
        self._requests.labels(exchange.route, model, str(exchange.status)).inc()
        if exchange.reason:
            self._refusals.labels(model, exchange.reason).inc()
        if exchange.answer:
            self._faces.labels(model).inc(exchange.answer.faces)
            self._latency.labels(model).observe(exchange.seconds)
            for part in PARTS:
                self._parts.labels(model, part).observe(exchange.answer.seconds.get(part, 0.0))

    def note_job_taken(self, model: str) -> None:
        """Count a job that was accepted."""
        self._jobs_taken.labels(model).inc()

    def note_job_ended(self, model: str, outcome: str) -> None:
        """Count a job that is "done", "failed" or "cancelled"."""
        self._jobs_ended.labels(model, outcome).inc()

    def note_job_photo(self, model: str, outcome: str) -> None:
        """Count a photo of a job that is "done" or "failed"."""
        self._job_photos.labels(model, outcome).inc()

    def watch_jobs(self, backlog: Callable[[], Mapping[str, Backlog]], models: Collection[str]) -> None:
        """From now on tell what `backlog` says, by model, of `models` also where nothing waits."""
        self._registry.register(_Jobs(backlog, models))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of them, in the format that an Accept header asks for, and its type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Crew(Collector):
    """The crew at the moment that it is asked about."""

    def __init__(self, state: Callable[[], State], held_bytes: Callable[[], int]) -> None:
        self._state, self._held_bytes = state, held_bytes

    def collect(self) -> Iterator[Metric]:
        """Every metric of the state."""
        state = self._state()
        yield GaugeMetricFamily("cameo_calls_waiting", "calls in the queue", value=state.waiting)
        yield GaugeMetricFamily("cameo_calls_inside", "calls that workers have", value=state.inside)
        yield GaugeMetricFamily("cameo_wait_seconds", "how long a new call would wait", value=state.wait_s)
        yield GaugeMetricFamily("cameo_uploads_bytes", "of photos inside, as files", value=self._held_bytes())
        yield GaugeMetricFamily("cameo_ready", "whether a worker is there to take calls", value=int(state.ready))
        yield from _of_seats(state)
        yield from _of_workers(state)

    def describe(self) -> Iterator[Metric]:
        """Nothing: a state need not be there when the collector is registered."""
        return iter(())


class _Jobs(Collector):
    """Jobs at the moment that they are asked about."""

    def __init__(self, backlog: Callable[[], Mapping[str, Backlog]], models: Collection[str]) -> None:
        self._backlog, self._none = backlog, dict.fromkeys(models, Backlog())

    def collect(self) -> Iterator[Metric]:
        """What is not done; nothing where that cannot be read now, for the other metrics are wanted then most."""
        try:
            unfinished = self._backlog()
        except OutputError:
            return
        jobs = GaugeMetricFamily("cameo_jobs_unfinished", "jobs that are not done", labels=("model",))
        photos = GaugeMetricFamily("cameo_job_photos_waiting", "photos of jobs without a result", labels=("model",))
        for model, left in {**self._none, **unfinished}.items():
            jobs.add_metric([model], left.jobs)
            photos.add_metric([model], left.photos)
        yield from (jobs, photos)

    def describe(self) -> Iterator[Metric]:
        """Nothing: it is not asked before it must be."""
        return iter(())


def _of_seats(state: State) -> Iterator[Metric]:
    breaker = GaugeMetricFamily("cameo_breaker", "1 for the state it is in", labels=("worker", "state"))
    restarts = CounterMetricFamily("cameo_worker_restarts", "workers that were replaced", labels=("worker",))
    for number, seat in enumerate(state.seats):
        restarts.add_metric([str(number)], seat.restarts)
        for name in (CLOSED, OPEN, HALF_OPEN):
            breaker.add_metric([str(number), name], int(seat.breaker == name))
    yield from (breaker, restarts)


def _of_workers(state: State) -> Iterator[Metric]:
    """What workers said of themselves; counters begin anew with each worker."""
    used = GaugeMetricFamily("cameo_memory_used_bytes", "held by models and what runs", labels=("worker", "place"))
    budget = GaugeMetricFamily("cameo_memory_budget_bytes", "what may be held", labels=("worker", "place"))
    opened = GaugeMetricFamily("cameo_model_open", "models in memory", labels=("worker", "model", "mode"))
    batches = CounterMetricFamily("cameo_batches", "runs of networks, by their rows", labels=("worker", "rows"))
    recoveries = CounterMetricFamily("cameo_oom_recoveries", "smaller batches that went through", labels=("worker",))
    loads = CounterMetricFamily("cameo_model_loads", "models that were opened", labels=("worker",))
    for number, worker in ((str(n), seat.worker) for n, seat in enumerate(state.seats) if seat.worker):
        for place, memory in worker.memory.items():
            used.add_metric([number, place], memory.used)
            if memory.budget is not None:
                budget.add_metric([number, place], memory.budget)
        for model in worker.models:
            opened.add_metric([number, model.name, model.mode], 1)
        for rows, runs in worker.batches.items():
            batches.add_metric([number, rows], runs)
        recoveries.add_metric([number], worker.recoveries)
        loads.add_metric([number], worker.loads)
    yield from (used, budget, opened, batches, recoveries, loads)
