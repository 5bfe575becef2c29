"""The replicas' metrics as one text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ferrum.runtime.serve.ray.metrics import merge


def text(requests: int) -> str:
    registry = CollectorRegistry()
    Gauge("waiting", "Requests that wait", registry=registry).set(requests)
    Counter("ended", "Requests by outcome", ["outcome"], registry=registry).labels("stop").inc(2)
    Histogram("seconds", "Time", buckets=(1, 2), registry=registry).observe(1.5)
    return generate_latest(registry).decode()


def test_every_sample_is_there_with_its_replica() -> None:
    merged = merge({"a": text(3), "b": text(5)}).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(merged)
        for sample in family.samples
    }
    assert samples["waiting", ("replica", "a")] == 3
    assert samples["waiting", ("replica", "b")] == 5
    assert samples["ended_total", ("outcome", "stop"), ("replica", "b")] == 2
    assert samples["seconds_bucket", ("le", "2.0"), ("replica", "a")] == 1
    assert merged.count("# TYPE seconds histogram") == 1


def test_no_replicas_are_no_samples() -> None:
    assert merge({}) == b""
