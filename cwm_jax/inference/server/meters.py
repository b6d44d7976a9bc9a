"""What `/metrics` tells, in Prometheus' words."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cwm_jax.inference.engine import Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Meters:
    """Counts of one server."""

    def __init__(self, engine: Engine):
        self._registry = CollectorRegistry()
        self._registry.register(_EngineMeters(engine))
        self._requests = Counter("cwm_requests", "Requests answered", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "cwm_request_seconds", "First byte of a request to the last of its answer", ["path"], buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._first = Histogram(
            "cwm_time_to_first_token_seconds", "Request to its first token", buckets=_SECONDS, registry=self._registry
        )
        self._each = Histogram(
            "cwm_time_per_output_token_seconds", "Mean over the tokens of an answer after its first",
            buckets=_TOKEN_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter("cwm_answer_tokens", "Tokens of answers that were told", registry=self._registry)
        self._left = Counter("cwm_clients_gone", "Clients that left before their answer", registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request is over; `path` is one of few."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def gone(self) -> None:
        """A client left."""
        self._left.inc()

    def clock(self) -> "Clock":
        """Times the tokens of a request from now on."""
        return Clock(self._first, self._each, self._tokens)

    def text(self) -> bytes:
        """All of it, to be scraped."""
        return generate_latest(self._registry)


class Clock:
    """The times of one request's tokens."""

    def __init__(self, first: Histogram, each: Histogram, tokens: Counter):
        self._first, self._each, self._tokens = first, each, tokens
        self._began = time.monotonic()
        self._times: dict[int, tuple[float, int]] = {}  # of each answer: its first token, and tokens so far

    def made(self, index: int, tokens: int, over: bool) -> None:
        """An answer has more tokens."""
        if not tokens:
            return
        now = time.monotonic()
        if not self._times:
            self._first.observe(now - self._began)
        start, before = self._times.get(index, (now, 0))
        self._times[index] = start, before + tokens
        self._tokens.inc(tokens)
        if over and before:
            self._each.observe((now - start) / (before + tokens - 1))


class _EngineMeters:
    """Reads the engine when it is scraped."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, scheduler = self._engine, self._engine.scheduler
        yield GaugeMetricFamily("cwm_running", "Sequences in slots", len(scheduler.running))
        yield GaugeMetricFamily("cwm_slots", "Slots", engine.config.slots)
        yield GaugeMetricFamily("cwm_waiting", "Requests that wait for a slot", scheduler.waiting)
        yield GaugeMetricFamily("cwm_weights_version", "Version of the weights", engine.version)
        pages = GaugeMetricFamily("cwm_pages_free", "Pages that nothing running holds", labels=["group"])
        for group, free in enumerate(scheduler.available()):
            pages.add_metric([str(group)], free)
        yield pages
        for name, what, value in self._counters():
            yield CounterMetricFamily(name, what, value)

    def _counters(self) -> Iterable[tuple[str, str, int]]:
        counts, scheduler = self._engine.counts, self._engine.scheduler
        return (
            ("cwm_prompt_tokens_read", "Tokens of prompts that were computed", counts.read),
            ("cwm_prompt_tokens_reused", "Tokens of prompts that were found in caches", scheduler.reused),
            ("cwm_tokens_made", "Tokens that the engine made, those that nobody read included", counts.made),
            ("cwm_tokens_guessed", "Tokens that were guessed", counts.guessed),
            ("cwm_tokens_guessed_right", "Guesses that came out", counts.right),
            ("cwm_preemptions", "Sequences that gave their pages back", scheduler.preempted),
            ("cwm_weight_swaps", "Changes of weights", counts.swaps),
        )
