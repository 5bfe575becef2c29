"""The folder that ferrum-build writes runs in onnxruntime-genai's paged engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import pytest
from exports import Exports, Model

TOKENS = 60


def generate(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy tokens for all prompts at once."""
    model = og.Model(str(folder))
    engine = og.Engine(model)
    flags, events = og.EngineEventFlags, engine.create_event_buffer(16)
    live = []
    for ids in prompts:
        request = engine.create_request()
        turn = og.TurnOptions(request)
        turn.set_do_sample(False)
        turn.set_max_generated_tokens(TOKENS)
        request.begin_turn(np.asarray(ids, np.int32), turn)
        live.append((request, []))
    while engine.has_pending_requests():
        for event in engine.run(events):
            tokens = next(tokens for request, tokens in live if request == event.request)
            kind = int(event.flags)
            assert not kind & int(flags.FAILED), event.error_code
            if kind & int(flags.TOKEN):
                tokens.append(int(event.token))
            if kind & int(flags.TURN_FINISHED):
                event.request.close()
    return [tokens for _, tokens in live]


@pytest.mark.parametrize("layout", ["file", "cuda"])
@pytest.mark.parametrize("library", [True, False], ids=["kernels", "reference bodies"])
def test_genai_generates_the_tokens_of_our_own_sessions(
    exports: Exports, sample: Path, tmp_path: Path, library: bool, layout: str
) -> None:
    command = [Path(sys.executable).with_name("ferrum-build"), sample, tmp_path / "model.onnx"]
    command += ["--layout", layout]
    subprocess.run([*command, *(["--copy-library"] if library else [])], check=True)
    prompts = [entry["prompt_ids"] for entry in exports.reference["greedy"].values()]
    found = generate(tmp_path, prompts)
    ours = Model(tmp_path / "model.onnx", library=library)
    # genai ends a turn before an end-of-sequence token; none of these texts reaches one so early.
    assert found == [ours.greedy(ids, TOKENS)[0] for ids in prompts]


def test_genai_encodes_text_as_the_tokenizer_file_does(
    exports: Exports, sample: Path, tmp_path: Path
) -> None:
    command = [Path(sys.executable).with_name("ferrum-build"), sample, tmp_path / "model.onnx"]
    subprocess.run(command, check=True)
    tokenizer = og.Tokenizer(og.Model(str(tmp_path)))
    for text, entry in exports.reference["greedy"].items():
        assert list(tokenizer.encode(text)) == entry["prompt_ids"]
