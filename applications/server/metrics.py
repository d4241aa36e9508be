"""What the server counts, in Prometheus's text format. No name, address or content of a request is in it."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server, each in a registry of its own.

    Attributes:
        requests: answers to `/v1/predict`, by format and status; status 499 is a client that left.
        seconds: from a request's first byte to the end of its answer.
        waiting_seconds: that a received video waited for a free engine.
        frames: maps given.
        received_bytes: of videos.
        running: engines at work.
        places: requests that are being received, wait, run or are being answered.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry: dict[str, Any] = {"registry": self.registry, "namespace": "dtfsal"}
        self.requests = Counter("requests", "Answers, by format and HTTP status", ["format", "status"], **registry)
        self.seconds = Histogram("request_seconds", "From request to answer", buckets=_SECONDS, **registry)
        self.waiting_seconds = Histogram("waiting_seconds", "Wait for a free engine", buckets=_SECONDS, **registry)
        self.frames = Counter("frames", "Frames with maps", **registry)
        self.received_bytes = Counter("received_bytes", "Bytes of received videos", **registry)
        self.running = Gauge("jobs_running", "Engines at work", **registry)
        self.places = Gauge("places_taken", "Requests that are received, wait, run or are answered", **registry)
        self._limits = Gauge("limit", "Limits of the server", ["name"], **registry)
        self._engine = Info("engine", "The engine that predicts", **registry)
        ProcessCollector(registry=self.registry)

    def describe(self, engine: dict[str, Any], limits: dict[str, float]) -> None:
        """Tell what runs, and within what limits.

        Args:
            engine: what `Engine.describe` gave.
            limits: by name.
        """
        names = {name: str(engine[name]) for name in ("model_name", "precision", "target")}
        self._engine.info(names | {"device": str(engine["backend"]["device"])})
        for name, value in limits.items():
            self._limits.labels(name).set(value)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
