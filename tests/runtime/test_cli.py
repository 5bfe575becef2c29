"""ferrum-run as people use it: what comes out where, and with which exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import END, greedy, tokenizer

from ferrum.custom_ops.library import describe
from ferrum.runtime import cli, weight_pages

RUN = [str(Path(sys.executable).with_name("ferrum-run"))]
TINY = ["--kernels", "reference", "--threads", "1", "--ignore-eos"]


def run(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("input", "")
    return subprocess.run([*RUN, *map(str, words)], text=True, capture_output=True, **options)


def expected(prompt: str, count: int) -> str:
    ids = tokenizer().encode(prompt, add_special_tokens=False).ids
    return tokenizer().decode(greedy(ids, count), skip_special_tokens=True)


def test_a_prompt_is_continued_and_timed(tiny: Path) -> None:
    done = run(tiny, "-p", "the youth", "--max-tokens", 12, *TINY)
    assert done.returncode == 0
    assert done.stdout == expected("the youth", 12) + "\n"
    speeds = r"\[prompt: 5 tokens in .* tokens/s; generation: 12 tokens in .* tokens/s; length\]\n"
    assert re.fullmatch(speeds, done.stderr)


def test_the_prompt_may_come_from_a_file_or_a_pipe(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("the youth")
    wanted = expected("the youth", 5) + "\n"
    words = [tiny, "--max-tokens", 5, *TINY]
    assert run(*words, "-f", tmp_path / "prompt.txt").stdout == wanted
    assert run(*words, "-f", "-", input="the youth").stdout == wanted


def test_line_ends_of_a_file_are_the_prompts(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"a\r\nb\r\n")
    words = [tiny, "--max-tokens", 1, "--json", *TINY]
    done = run(*words, "-f", tmp_path / "prompt.txt")
    wanted = len(tokenizer().encode("a\r\nb\r\n").ids)
    assert (
        json.loads(done.stdout)["prompt_tokens"] == wanted > len(tokenizer().encode("a\nb\n").ids)
    )


def test_json_holds_everything(tiny: Path) -> None:
    done = run(tiny, "-p", "the", "--max-tokens", 4, "--json", "--logprobs", 2, *TINY)
    result = json.loads(done.stdout)
    assert done.stderr == ""
    assert result["token_ids"] == greedy(tokenizer().encode("the").ids, 4)
    assert result["text"] == expected("the", 4)
    assert (result["finish_reason"], result["prompt_tokens"]) == ("length", 1)
    assert [len(row["top"]) for row in result["logprobs"]] == [2] * 4
    assert result["generation_tokens_per_second"] > 0


def test_options_reach_the_sampler(tiny: Path) -> None:
    words = [tiny, "-p", "the", "--max-tokens", 30, *TINY]
    warm = ["--temperature", 50, "--top-k", 90]
    one, again, other = (run(*words, *warm, "--seed", seed).stdout for seed in (1, 1, 2))
    assert one == again != other
    text = expected("the", 30)
    assert run(*words, "--stop", text[4:7]).stdout == text[: text.index(text[4:7])] + "\n"


def chat_reply(messages: str, count: int) -> str:
    return expected(messages + "<|im_start|>assistant\n", count)


def test_lines_of_a_pipe_are_a_conversation(tiny: Path) -> None:
    done = run(tiny, "--max-tokens", 3, "--system", "be", *TINY, input="hi\n\nso\n")
    first = "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    reply = chat_reply(first, 3)
    second = f"{first}<|im_start|>assistant\n{reply}<|im_end|>\n<|im_start|>user\nso<|im_end|>\n"
    assert done.stdout == reply + "\n" + chat_reply(second, 3) + "\n"
    assert done.stderr.count("[prompt:") == 2
    assert done.returncode == 0


def test_a_prompt_can_be_a_message(tiny: Path) -> None:
    done = run(tiny, "-p", "hi", "--chat", "--max-tokens", 3, *TINY)
    assert done.stdout == chat_reply("<|im_start|>user\nhi<|im_end|>\n", 3) + "\n"


def test_settings_come_from_the_environment_too(tiny: Path) -> None:
    words = [tiny, "-p", "the", "--max-tokens", 2]
    variables = {**os.environ, "FERRUM_KERNELS": "nonsense"}
    refused = run(*words, env=variables)
    assert (refused.returncode, "kernels, got 'nonsense'" in refused.stderr) == (2, True)
    assert run(*words, "--kernels", "reference", env=variables).returncode == 0


def test_a_profile_names_the_stages(exported: Path) -> None:
    words = [exported, "-p", "import os", "--max-tokens", 4, "--ignore-eos", "--profile"]
    stages = {line.split()[0] for line in run(*words).stderr.splitlines()}
    assert {"attention", "route", "gate_up", "down", "lm_head", "python"} <= stages
    assert set(stages) & set(describe()["stages"]) == set(json.loads(
        run(*words, "--json").stdout)["profile"]) & set(describe()["stages"])  # fmt: skip


def test_a_model_larger_than_the_memory_runs_and_says_what_that_means(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(exported), "-p", "the", "--max-tokens", "3", "--ignore-eos"]
    assert cli.main(words) == 0
    usual = capsys.readouterr()
    monkeypatch.setattr(weight_pages, "free_memory", lambda: 1 << 16)
    assert cli.main(words) == 0
    streamed = capsys.readouterr()
    assert streamed.out == usual.out
    assert len(streamed.err.splitlines()) == len(usual.err.splitlines()) + 1
    assert "GiB of weights, room for 0.0 GiB" in streamed.err


def test_a_trace_is_saved(exported: Path, tmp_path: Path) -> None:
    file, chrome = tmp_path / "ids.npz", tmp_path / "chrome.json"
    done = run(exported, "-p", "import os", "--max-tokens", 4, "--ignore-eos", "--trace",
               "blk.*.expert_ids,blk.0.expert_weights", "--trace", "blk.3.output",
               "--trace-file", file, "--trace-out", chrome, "--expert-load")  # fmt: skip
    assert done.returncode == 0
    saved = np.load(file)
    assert saved["blk.3.expert_ids"].shape == (len(saved["token"]), 4)
    assert saved["blk.0.expert_weights"].sum(-1) == pytest.approx(1, abs=1e-6)
    assert f"values in {file}" in done.stderr
    assert done.stderr.count("experts:") == 4
    assert json.loads(chrome.read_text())["traceEvents"]


BAD = {
    "no such file": (["nothing.onnx", "-p", "x"], r"\[nothing.onnx\] no such file"),
    "no export": ([__file__, "-p", "x"], r"no ferrum\.json beside it"),
    "unknown option": (["TINY", "--temprature", "1"], "unrecognized arguments: --temprature"),
    "no model": ([], "OUT.onnx"),
    "two prompts": (["TINY", "-p", "x", "-f", "y"], "not allowed with"),
    "bad number": (["TINY", "--temperature", "warm"], r"\[temperature\] got 'warm' -> a number"),
    "bad value": (["TINY", "--top-p", "2"], r"top_p, got 2.0 -> less than or equal to 1"),
    "bad choice": (["TINY", "--moe-path", "fast"], r"moe_path, got 'fast' -> 'auto', 'one'"),
    "isa": (["TINY", "-p", "x", "--isa", "neon"], r"ferrum\.isa"),
    "empty prompt": (["TINY", "-p", ""], "no tokens -> at least one"),
    "prompt beyond the context": (["TINY", "-p", "x" * 96], "96 tokens and 1 to come -> at most"),
    "prompt beyond the caches": (
        ["TINY", "-p", "x" * 40, "--kv-capacity", "32"], "at most 32: .*the caches hold 32"
    ),
    "traced name": (["TINY", "-p", "x", "--trace", "blk.0.key.sun"], r"such as blk\.0\.key\.sum"),
    "trace file alone": (["TINY", "-p", "x", "--trace-file", "f"], "without --trace"),
    "trace file in no folder": (
        ["TINY", "-p", "x", "--trace", "*.sum", "--trace-file", "/nowhere/f.npz"], "/nowhere/f.npz"
    ),
    "Chrome trace in no folder": (["TINY", "-p", "x", "--trace-out", "/nowhere/f"], "/nowhere/f"),
    "json without a prompt": (["TINY", "--json"], "without a prompt"),
    "missing prompt file": (["TINY", "-f", "nowhere.txt"], "nowhere.txt"),
    "chat option": (["TINY", "-p", "x", "--chat", "--chat-option", "a=b"], "NAME=JSON"),
    "messages as chat option": (
        ["TINY", "-p", "x", "--chat", "--chat-option", "messages=1"],
        r"\[chat_option\] messages -> one of the template's own",
    ),
    "chat option of no chat": (["TINY", "-p", "x", "--chat-option", "a=1"], "--chat too"),
    "system message of no chat": (["TINY", "-p", "x", "--system", "be"], "--chat too"),
    "prompt of another encoding": (
        ["TINY", "-p", "a\udcffb"], r"\[prompt\] character 1, got .* -> a text of UTF-8"
    ),
    "trace file that is a folder": (
        ["TINY", "-p", "x", "--trace", "*.sum", "--trace-file", "/"], r"\[/\] is a folder"
    ),
    "trace file that is the model": (
        ["TINY", "-p", "x", "--trace", "*.sum", "--trace-file", "TINY"], "itself -> another file"
    ),
    "two reports in one file": (
        ["TINY", "-p", "x", "--trace", "*.sum", "--trace-file", "f", "--trace-out", "f"],
        r"\[f\] is f itself -> another file for the report",
    ),
    "Chrome trace that is the model": (
        ["TINY", "-p", "x", "--trace-out", "TINY"], "itself -> another file for the report"
    ),
    "more caches than there can be": (
        ["TINY", "-p", "x", "--kv-capacity", "999999999999"], "kv_capacity, got 9{12} -> less"
    ),
}  # fmt: skip


def test_a_damaged_graph_is_one_line_and_status_2(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny.parent, tmp_path / "export")
    graph = tmp_path / "export" / tiny.name
    graph.write_bytes(graph.read_bytes()[:-500])
    done = run(graph, "-p", "x", "--kernels", "reference")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"ferrum-run: \[.*tiny\.onnx\] ONNX Runtime refuses it: .*\n", done.stderr)


def test_weights_that_were_replaced_are_noticed(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny.parent, tmp_path / "export")
    (tmp_path / "export" / "tiny.gguf").write_bytes(b"another model")
    done = run(tmp_path / "export", "-p", "x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "tiny.gguf] 13 bytes, but the graph was written for one of 1,024" in done.stderr


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_status_2(tiny: Path, what: str) -> None:
    words, sentence = BAD[what]
    kernels = [] if what in ("isa", "no model") else ["--kernels", "reference"]
    done = run(*[str(tiny) if word == "TINY" else word for word in words], *kernels)
    assert done.returncode == 2
    assert re.search(sentence, done.stderr)
    assert done.stderr.startswith("ferrum-run: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout.strip() == ""


def imported_by(program: str, *modules: str) -> tuple[str, list[str]]:
    """What a program prints, and which of the modules it has imported at its end."""
    asked = f"\nimport sys; print([name for name in {modules} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program + asked], text=True, capture_output=True)
    *printed, last = done.stdout.splitlines()
    return "\n".join(printed), json.loads(last.replace("'", '"'))


@pytest.mark.parametrize("words", [["-f", "-"], ["-f", "FILE"], []])
def test_input_of_another_encoding_is_named(tiny: Path, tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9\n")
    given = [str(file) if word == "FILE" else word for word in words]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*RUN, str(tiny), *given, *TINY], input=file.read_bytes(),
                          capture_output=True, env=strict)  # fmt: skip
    assert done.returncode == 2
    wanted = rb"ferrum-run: \[(standard input|prompt|.*latin\.txt)\] .*UTF-8.*\n"
    assert re.fullmatch(wanted, done.stderr)


def test_a_closed_standard_input_is_one_line(tiny: Path) -> None:
    words = ["sh", "-c", '"$@" <&-', "sh", *RUN, str(tiny), *TINY]
    done = subprocess.run(words, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ferrum-run: [standard input] is closed -> -p or -f\n"


def test_a_chat_that_fails_still_reports(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "ids.npz"
    words = ["--max-tokens", 2, "--trace", "blk.0.expert_ids", "--trace-file", file, "--profile"]
    done = run(exported, *words, input="hello\n" + "word " * 2000 + "\n")
    assert done.returncode == 2
    assert np.load(file)["blk.0.expert_ids"].size
    assert "head" in done.stderr
    assert re.search(r"^ferrum-run: .* -> at most .*\n\Z", done.stderr, re.MULTILINE)


def test_help_does_not_wait_for_the_runtime() -> None:
    program = "from ferrum.runtime.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    printed, imported = imported_by(program, "onnxruntime", "onnx", "tokenizers")
    assert "--moe-path {auto,one,few,grouped}" in printed
    assert imported == []


def test_the_usual_way_needs_no_onnx_package() -> None:
    program = "import ferrum.runtime.llm"
    assert imported_by(program, "onnx", "onnxscript", "gguf")[1] == []


def test_only_chats_wait_for_the_template_engine(tiny: Path) -> None:
    program = (f"from ferrum.runtime.llm import LLM\nllm = LLM({str(tiny)!r}, kv_capacity=32)\n"
               "llm.generate('the youth')\n")  # fmt: skip
    chat = "llm.chat_prompt([{'role': 'user', 'content': 'hi'}])"
    assert imported_by(program, "jinja2")[1] == []
    assert imported_by(program + chat, "jinja2")[1] == ["jinja2"]


def start(model: Path, *words: Any, **options: Any) -> subprocess.Popen[bytes]:
    """ferrum-run on an answer that ends with the context: at some 30 tokens per second in half a
    minute, and so not before a test that a busy machine keeps waiting has done something to it."""
    command = [*RUN, model, *TINY, "--max-tokens", "none", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_ctrl_c_stops_cleanly_with_the_speeds(exported: Path) -> None:
    process = start(exported, "-p", "import os")
    assert process.stdout is not None
    process.stdout.read(20)  # it has begun
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"\[prompt: .* cancelled\]\n", errors.decode())


def test_a_reader_that_goes_away_ends_it_quietly(exported: Path) -> None:
    process = start(exported, "-p", "import os")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(20)
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_at_a_terminal_ctrl_c_stops_the_answer_and_the_chat_goes_on(exported: Path) -> None:
    master, slave = pty.openpty()
    process = start(exported, stdin=slave)
    os.close(slave)
    assert process.stdout is not None
    assert process.stderr is not None
    os.write(master, b"hello\n")
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    seen = until(process.stderr.fileno(), b"cancelled]\n> ")
    assert seen.startswith(b"> ")
    # Python does not notice a signal between its last look for one and the system call that waits.
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 130


def test_a_run_that_fails_before_a_step_leaves_the_older_trace(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.npz"
    file.write_text("older")
    done = run(tiny, "-p", "", "--trace", "*.sum", "--trace-file", file, *TINY)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert file.read_text() == "older"


def test_at_a_terminal_a_message_too_long_is_dropped_and_the_chat_goes_on(exported: Path) -> None:
    master, slave = pty.openpty()
    process = start(exported, "--max-tokens", "2", "--kv-capacity", "64", "--block-size", "16",
                    stdin=slave)  # fmt: skip
    os.close(slave)
    assert process.stderr is not None
    os.write(master, b"over and over " * 20 + b"\n")
    assert b" -> at most 64: " in until(process.stderr.fileno(), b"\n> ")
    os.write(master, b"hi\n")
    assert b"generation: 2 tokens" in until(process.stderr.fileno(), b"length]\n> ")
    os.write(master, b"\x04")  # the end of the input
    assert process.communicate(timeout=60)[1] == b""
    os.close(master)
    assert process.returncode == 0


def until(descriptor: int, ending: bytes) -> bytes:
    """Everything read up to `ending`; fails where it does not come within a minute."""
    seen, deadline = b"", time.monotonic() + 60
    while not seen.endswith(ending):
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(descriptor, 4096)
    return seen


def test_the_end_token_ends_the_text(tiny: Path) -> None:
    prompt = next(i for i in range(200) if END in greedy([i], 40)[3:])
    text = tokenizer().decode([prompt])
    if tokenizer().encode(text).ids != [prompt]:
        pytest.fail("the prompt that ends has no text; choose another seed in tiny_export")
    done = run(tiny, "-p", text, "--kernels", "reference", "--threads", "1", "--max-tokens", 90)
    assert done.stderr.rstrip().endswith("; stop]")
