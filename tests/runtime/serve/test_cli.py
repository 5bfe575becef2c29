"""ferrum-serve's command line: what it says, and what it refuses in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import PROGRAM, Served, served

Start = Callable[..., Served]


def run(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *map(str, words)], text=True, capture_output=True,
                          timeout=120, **options)  # fmt: skip


def refused(*words: Any, **options: Any) -> str:
    """The one line that a start with these words ends with."""
    done = run(*words, **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ferrum-serve: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_one_line_says_what_is_served_where(ferrum_serve: Start) -> None:
    served = ferrum_serve("--kv-capacity", 4096)
    line = r"ferrum-serve: tinycode at http://127\.0\.0\.1:\d+, caches for 4,096 tokens\n"
    assert re.fullmatch(line, served.ready)
    assert served.get("/health").json() == {"status": "ok"}
    models = served.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["tinycode"]
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == (0, "")


def test_options_and_the_environment_reach_the_server(ferrum_serve: Start) -> None:
    environment = {**os.environ, "FERRUM_SERVE_API_KEY": "k", "FERRUM_SERVE_MAX_BODY": "100"}
    served = ferrum_serve("--model-name", "mine", "--max-body", 50, environment=environment)
    assert served.ready.startswith("ferrum-serve: mine at ")
    assert served.get("/v1/models").status_code == 401
    key = {"authorization": "Bearer k"}
    assert served.get("/v1/models", headers=key).json()["data"][0]["id"] == "mine"
    long = {"prompt": "x" * 60}
    assert served.post("/v1/completions", long, headers=key).status_code == 413


def test_whoever_serves_others_without_a_key_is_told(ferrum_serve: Start) -> None:
    warning = "ferrum-serve: 0.0.0.0 can be reached from other machines"
    for key, told in [([], True), (["--api-key", "k"], False)]:
        served = ferrum_serve("--host", "0.0.0.0", *key)
        served.process.send_signal(signal.SIGTERM)
        status, errors = served.end()
        assert status == 0
        assert errors.startswith(warning) == told
        assert errors.count("\n") == told


def test_the_access_log_has_one_line_per_request_without_its_text(ferrum_serve: Start) -> None:
    served = ferrum_serve("--access-log")
    body = {"prompt": "my secret", "max_tokens": 2}
    assert served.post("/v1/completions?my=secret", body).status_code == 200
    assert served.get("/nowhere").status_code == 404
    served.process.send_signal(signal.SIGTERM)
    status, errors = served.end()
    first, second = errors.splitlines()
    assert re.search(r"POST /v1/completions 200 \d+\.\d{3}s req-\w+$", first)
    assert re.search(r"GET /nowhere 404 \d+\.\d{3}s req-\w+$", second)
    assert (status, "secret" in errors) == (0, False)


def test_cached_prompts_survive_a_restart(ferrum_serve: Start, tmp_path: Path) -> None:
    file = tmp_path / "prompts.cache"
    body = {"prompt": list(range(40, 140)), "max_tokens": 4, "temperature": 0}
    answers = []
    for _ in range(2):
        served = ferrum_serve("--cache-file", file)
        answers.append(served.post("/v1/completions", body).json())
        served.process.send_signal(signal.SIGTERM)
        status, errors = served.end()
        assert status == 0
        assert errors == f"ferrum-serve: 3 blocks of cached prompts in {file}\n"
    first, second = answers
    assert [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in answers] == [0, 96]
    assert first["choices"] == second["choices"]


def test_a_cache_file_of_something_else_is_refused(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.cache"
    file.write_bytes(b"something else")
    assert f"[{file}]" in refused(exported, "--port", 0, "--cache-file", file)
    assert file.read_bytes() == b"something else"


def test_a_cache_file_that_cannot_be_written_is_status_1(
    ferrum_serve: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    served = ferrum_serve("--cache-file", folder / "prompts.cache")
    folder.rmdir()
    served.process.send_signal(signal.SIGTERM)
    status, errors = served.end()
    assert (status, errors.count("\n")) == (1, 1)
    assert "no folder" in errors


def test_a_second_signal_writes_no_cache_file(ferrum_serve: Start, tmp_path: Path) -> None:
    file = tmp_path / "prompts.cache"
    served = ferrum_serve("--cache-file", file, "--max-sequences", 1, "--kernels", "reference")
    body = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "n": 16, "stream": True}
    with httpx.stream("POST", served.url + "/v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        served.process.send_signal(signal.SIGTERM)
        while served.get("/health").status_code == 200:
            pass
        served.process.send_signal(signal.SIGTERM)
        assert "stopped" in list(lines)[-2]
    assert served.end() == (143, "")
    assert not file.exists()


def test_an_address_in_use_is_refused_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} cannot be listened at" in refused("no.onnx", "--port", port)


BAD = {
    "no model": ([], "OUT.onnx"),
    "no such file": (["nothing.onnx", "--port", "0"], r"\[nothing.onnx\] no such file"),
    "unknown option": (["x", "--prot", "1"], "unrecognized arguments: --prot"),
    "number": (["x", "--port", "http"], r"\[port\] got 'http' -> a whole number"),
    "value": (["x", "--port", "99999"], "port, got 99999 -> less than or equal to 65535"),
    "model's value": (["x", "--threads", "-1"], "threads, got -1"),
    "folder": (["x", "--cache-file", "/nowhere/f"], r"cache_file: \[/nowhere/f\] no folder /now"),
    "file": (["x", "--cache-file", "/proc/x"], r"cache_file: \[/proc/x\] cannot be written"),
    "reuse": (["x", "--cache-file", "f", "--no-prefix-reuse"], "cache_file is given, but"),
    "host": (["x", "--host", "nowhere.invalid"], "host nowhere.invalid, port 8080 cannot be"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_status_2(what: str) -> None:
    words, sentence = BAD[what]
    assert re.search(sentence, refused(*words))


def test_a_bad_variable_is_one_line_too() -> None:
    environment = {**os.environ, "FERRUM_SERVE_PORT": "http"}
    assert "FERRUM_SERVE_PORT: [port] got 'http'" in refused("x", env=environment)
    environment = {**os.environ, "FERRUM_SERVE_API_KEY": ""}
    assert "FERRUM_SERVE_API_KEY is empty" in refused("x", env=environment)


def test_without_the_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['uvicorn'] = None\nfrom ferrum.runtime.serve.cli import main"
    done = subprocess.run([sys.executable, "-c", f"{program}\nsys.exit(main(['x']))"], text=True,
                          capture_output=True)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install '.[serve]' in ferrum's folder" in done.stderr


def test_help_does_not_wait_for_the_server() -> None:
    program = """
import sys, json
from ferrum.runtime.serve.cli import main
try: main(["--help"])
except SystemExit: pass
slow = ("onnxruntime", "starlette", "uvicorn", "llguidance")
print(json.dumps([name for name in slow if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True)
    *printed, imported = done.stdout.splitlines()
    assert json.loads(imported) == []
    text = "\n".join(printed)
    assert "--api-key" in text
    assert "--max-sequences" in text
    assert "exit status" in text


def test_a_failed_engine_is_status_1_and_saves_no_cache(exported: Path, tmp_path: Path) -> None:
    program = """
import sys
from ferrum.runtime.engine import Engine
from ferrum.runtime.serve.cli import main
def step(self): raise AssertionError("two owners")
Engine.step = step
sys.exit(main(sys.argv[1:]))
"""
    file = tmp_path / "prompts.cache"
    command = [sys.executable, "-c", program]
    with served(exported, "--cache-file", file, command=command) as server:
        body = {"prompt": "import os", "max_tokens": 3}
        assert server.post("/v1/completions", body).status_code >= 500
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 1
    assert not file.exists()


def test_ctrl_c_while_the_model_is_loaded_is_one_line() -> None:
    program = """
import os, signal, sys
from ferrum.runtime import llm
from ferrum.runtime.serve.cli import main
class Slow:
    def __init__(self, *_): os.kill(os.getpid(), signal.SIGINT)
import ferrum.runtime.serve.service as service
service.LLM = Slow
sys.exit(main(["x", "--port", "0"]))
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ferrum-serve: stopped\n")
