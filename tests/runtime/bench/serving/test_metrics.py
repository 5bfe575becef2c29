"""Prometheus' text is read for its plain numbers."""

from __future__ import annotations

from ferrum.runtime.bench.serving.metrics import parse

TEXT = """\
# HELP ferrum_blocks Blocks.
# TYPE ferrum_blocks gauge
ferrum_blocks 512.0
ferrum_step_seconds_bucket{le="0.1"} 3.0
ferrum_step_seconds_sum 1.5e-03

ferrum_created 1.7e+09 1700000000
"""


def test_samples_without_labels_are_numbers() -> None:
    assert parse(TEXT) == {
        "ferrum_blocks": 512, "ferrum_step_seconds_sum": 0.0015, "ferrum_created": 1.7e9,
    }  # fmt: skip
