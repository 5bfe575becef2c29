"""ONNX Runtime's profile and our own spans to one file that chrome://tracing and Perfetto show."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ferrum.commands.report_file import ReportError, write_report
from ferrum.runtime.profile import Span

_READINGS = 20


def write_chrome_trace(file: Path, session: ort.InferenceSession, spans: Sequence[Span]) -> None:
    """Ends the session's profiling, which the settings began, and writes `file`.

    Both clocks are brought to microseconds since the profiling began.
    """
    began = session.get_profiling_start_time_ns()  # of the system's clock
    profile = Path(session.end_profiling())
    try:
        events: list[dict[str, Any]] = json.loads(profile.read_text())
    except ValueError:  # cut off, as by a full disk
        raise ReportError(f"[trace_out] ONNX Runtime's part of {file} was not written") from None
    finally:
        profile.unlink()
    shift = _apart() - began
    for span in spans:
        events.append({
            "cat": "ferrum", "name": span.name, "ph": "X", "pid": os.getpid(), "tid": 0,
            "ts": (span.start + shift) / 1e3, "dur": (span.end - span.start) / 1e3, "args": {},
        })  # fmt: skip
    content = {"traceEvents": events, "displayTimeUnit": "ms"}
    write_report(file, json.dumps(content).encode())


def _apart() -> int:
    """Nanoseconds that separate the system's clock from perf_counter_ns, which starts anywhere.

    Both are read several times: this process may have to wait in between.
    """
    readings = []
    for _ in range(_READINGS):
        before, now, after = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
        readings.append((after - before, now - before))
    return min(readings)[1]
