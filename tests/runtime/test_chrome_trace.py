"""One file with ONNX Runtime's events and ours, on one clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ferrum.runtime import chrome_trace
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams


def test_nothing_runs_before_it_is_asked_for(tiny_llm: Callable[..., LLM], tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    tiny_llm(trace_out=file).close()
    names = {event["name"] for event in json.loads(file.read_text())["traceEvents"]}
    assert "session_initialization" in names
    assert "model_run" not in names


def test_runs_of_the_graph_lie_within_our_spans(
    tiny_llm: Callable[..., LLM], tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    llm = tiny_llm(trace_out=file)
    llm.prepare()
    llm.generate([1, 2, 3], SamplingParams(max_tokens=4, ignore_eos=True))
    assert not file.exists()
    llm.close()
    assert list(tmp_path.iterdir()) == [file]  # ONNX Runtime's own file is gone
    events = json.loads(file.read_text())["traceEvents"]
    spans = [event for event in events if event["cat"] == "ferrum"]
    graphs = [event for event in spans if event["name"] == "graph"]
    runs = [event for event in events if event["name"] == "model_run"][-4:]  # after the warm-up
    assert len(graphs) == 4
    assert {"step", "graph", "sample"} == {event["name"] for event in spans}
    for graph, run in zip(graphs, runs, strict=True):
        # Two clocks are aligned by reading both, microseconds apart.
        assert graph["ts"] - 200 <= run["ts"]
        assert run["ts"] + run["dur"] <= graph["ts"] + graph["dur"] + 200
    assert any(event["cat"] == "Node" for event in events)


class Clocks:
    """Two clocks a second apart, and a process that has to wait when it first reads the one."""

    now, wait = 0, 5_000_000

    def perf_counter_ns(self) -> int:
        self.now += 100
        return self.now

    def time_ns(self) -> int:
        self.now, self.wait = self.now + self.wait, 0
        return self.now + 1_000_000_000


def test_a_process_that_waits_between_the_clocks_takes_them_for_no_further_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chrome_trace, "time", Clocks())
    assert chrome_trace._apart() == pytest.approx(1_000_000_000, abs=100)
