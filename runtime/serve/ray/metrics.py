"""The replicas' metrics as one text: each sample with the replica that it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Families(Collector):
    def __init__(self) -> None:
        self.by_name: dict[str, Metric] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self.by_name.values()


def merge(texts: Mapping[str, str]) -> bytes:
    """Prometheus' text format of several, by replica; samples get the label `replica`."""
    families = _Families()
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            merged = families.by_name.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            merged.samples += [
                sample._replace(labels={**sample.labels, "replica": replica})
                for sample in family.samples
            ]
    return generate_latest(families)
