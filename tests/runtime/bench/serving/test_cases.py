"""Every case runs on the sample, in small, and its figures are what it says they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.serving.__main__ import main
from ferrum.runtime.bench.serving.server import Server, ferrum_server


@pytest.fixture
def measured(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a case; what it wrote as JSON, and what it printed."""

    def run(case: str, *options: str) -> tuple[Any, str]:
        file = tmp_path / "run.json"
        assert main([case, str(exported), "--json", str(file), *options]) == 0
        record = json.loads(file.read_text())
        assert record["machine"]["cores"] >= 1
        assert record["command"][0] == case
        return record[case], capsys.readouterr().out

    return run


def test_clients_at_once(measured: Any) -> None:
    (served,), printed = measured(
        "clients", "--clients", "3", "--prompt", "20", "--tokens", "300", "--repeat", "2"
    )
    assert served["name"] == "ferrum-serve"
    assert len(served["rounds"]) == 2
    for one in served["rounds"]:
        assert one["tokens"] == 900
        assert len(one["first_text"]) == 3
        assert all(0 < first < one["seconds"] for first in one["first_text"])
        assert one["together"] is None or one["together"] > 0
    assert "tokens/s" in printed


def test_overhead_beside_the_model_alone(measured: Any) -> None:
    rounds, printed = measured(
        "overhead", "--clients", "1", "--prompt", "40", "--tokens", "900", "--repeat", "1"
    )
    (one,) = rounds
    assert one["alone"] > 0
    assert one["served"] > 0
    assert 0 < one["in_graph"] < 1
    assert "on top" in printed


def test_a_short_prompt_beside_a_long_one(measured: Any) -> None:
    rounds, printed = measured("beside", "--short", "8", "--long", "900", "--repeat", "1")
    (one,) = rounds
    assert one["alone"] > 0
    assert one["chunk"] > 0
    assert one["long_alone"] > 0
    assert len(one["short"]) == len(one["long"]) > 1
    assert "longest extra wait" in printed


def test_a_second_turn_reuses_the_first(measured: Any) -> None:
    rounds, printed = measured("turn", "--history", "300", "--repeat", "1")
    (one,) = rounds
    assert 200 < one["history"] < 400
    assert one["cached"] > 200
    assert one["question"] > 0
    assert one["anew"] > 0
    assert one["reused"] > 0
    assert "times as fast" in printed


def test_drafts_beside_plain_steps(measured: Any) -> None:
    rows, printed = measured("speculation", "--repeat", "1")
    assert [(row["text"], row["sequences"]) for row in rows] == [
        ("repetitive", 1), ("code", 1), ("repetitive", 4), ("code", 4),
    ]  # fmt: skip
    assert all(row["plain"][0] > 0 and row["drafting"][0] > 0 for row in rows)
    assert all(0 <= row["accepted"] <= row["drafted"] for row in rows)
    assert sum(row["drafted"] for row in rows) > 0
    assert "with drafts" in printed


def test_a_crowd_for_a_moment(measured: Any) -> None:
    found, printed = measured("soak", "--minutes", "0.1", "--clients", "6")
    assert found["unexpected"] == []
    assert found["outcomes"]["answered"] > 0
    assert set(found["outcomes"]) <= {
        "answered", "abandoned", *(f"refused ({status})" for status in (400, 404, 405, 413, 415)),
    }  # fmt: skip
    assert found["end"]["ferrum_blocks_used"] == 0
    assert found["status"] == 0
    assert "all blocks back: yes" in printed


def test_bad_arguments_are_one_line(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clients", str(exported), "--vs", "m.gguf"]) == 2
    assert capsys.readouterr().err == "[--vs, --llama-server] one of both -> both, or none\n"
    assert main(["turn", str(exported.with_name("none.onnx"))]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SideFailed, match=r"ferrum-serve\] its process ended: .*none\.onnx"):
        ferrum_server(tmp_path / "none.onnx")
    with pytest.raises(SideFailed, match="its process ended: status 3"):
        Server("x", ["sh", "-c", "exit 3", "sh"])
