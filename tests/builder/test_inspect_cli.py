"""ferrum-inspect as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ferrum.builder.inspect_cli import main

COMMAND = Path(sys.executable).with_name("ferrum-inspect")


def test_a_gguf_is_shown_in_words(sample: Path) -> None:
    done = subprocess.run(
        [COMMAND, sample, "--context", "512", "--batch", "2"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("16 experts of width 256", "Q6_K", "ffn_down_exps", "memory for 2 x 512 tokens"):
        assert text in done.stdout
    assert "\x1b" not in done.stdout


def test_json_holds_all_of_it(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sample), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["config"]["layers"] == 4
    assert content["memory"]["context"] == 1024
    assert {row["name"] for row in content["types"]} == {"Q4_K", "Q6_K", "F32"}
    assert content["machine"]["isa"] in content["machine"]["isas"]


def test_svg_writes_a_picture(sample: Path, tmp_path: Path) -> None:
    assert main([str(sample), "--svg", str(tmp_path / "l.svg"), "--layer", "3"]) == 0
    title = ElementTree.parse(tmp_path / "l.svg").getroot()[0]
    assert title.text == "Layer 3 of tinycode"


@pytest.mark.parametrize("name", ["m.gguf", "m.onnx"])
def test_what_is_no_model_gets_one_line_and_exit_2(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind, and some more bytes")
    assert main([str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--layer", "4"], ["--batch", "0"], ["--context", "0"]])
def test_wrong_arguments_exit_2(sample: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(sample), *arguments])
