"""The example for Node.js writes the text of ferrum's own runtime (make test-node)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from ferrum import LLM, SamplingParams
from ferrum.builder.build import BuildOptions, build

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "node"
# Their greedy texts are not in doubt: the two best logits stay at least 0.1 apart.
PROMPTS = {
    "begins a second block": "def fibonacci(n):\n",
    "prefills two blocks": "class Stack:\n    def push(self, item):\n"
    "        self.items.append(item)\n\n    def pop(self",
    "characters of several tokens": "α β α β α β α β",
}
SHORT = PROMPTS["begins a second block"]


def greedy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What the example prints, and its exit status."""
    return subprocess.run(
        ["node", EXAMPLE / "greedy.mjs", *arguments], capture_output=True, encoding="utf-8"
    )


def written(model: Path, prompt: str, tokens: int) -> str:
    """The text that the example writes."""
    done = greedy(model, prompt, str(tokens))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def expected(model: Path, prompt: str, tokens: int) -> str:
    """The text of ferrum's runtime in exact arithmetic, with the line's end that programs add."""
    with LLM(model, arithmetic="exact", threads=2) as llm:
        (done,) = llm.generate(prompt, SamplingParams(max_tokens=tokens))
    assert done.text.strip()
    return done.text + "\n"


@pytest.fixture(scope="module")
def export(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node") / "out" / "model.onnx"
    build(sample, path)
    return path


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_it_writes_the_runtimes_greedy_text(export: Path, prompt: str) -> None:
    assert written(export, prompt, 24) == expected(export, prompt, 24)


def test_it_runs_on_float32_caches(sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model, BuildOptions(kv_dtype="float32"))
    assert written(model, SHORT, 24) == expected(model, SHORT, 24)


def test_it_stops_at_an_end_token(export: Path, sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model)
    manifest = json.loads((tmp_path / "ferrum.json").read_text())
    with LLM(export, arithmetic="exact", threads=2) as llm:
        (done,) = llm.generate(SHORT, SamplingParams(max_tokens=24))
    manifest["tokenizer"]["eos"].append(done.token_ids[10])
    (tmp_path / "ferrum.json").write_text(json.dumps(manifest))
    text = written(model, SHORT, 24)
    assert text == expected(model, SHORT, 24)
    assert len(text) < len(done.text)


def test_it_stops_at_the_end_of_the_context(sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model, BuildOptions(max_context=32))
    text = written(model, SHORT, 1000)
    assert text == expected(model, SHORT, 1000)
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(SHORT + text[:-1]).ids
    assert len(ids) == 32


def test_its_tokens_are_the_runtimes(export: Path) -> None:
    texts = [
        *PROMPTS.values(),
        Path(__file__).read_text(encoding="utf-8"),
        "<|im_start|>user\nI'll say: don't\r\n\r\n\t  x<|im_end|>\n",
        "e\u0301 ﬁ ½ ²  \u00a0\u3000日本語のテキスト 🙂👩‍👩‍👧 ١٢٣ 123456",
    ]
    program = """
        import { readFileSync } from "node:fs";
        import { Tokenizer } from "@huggingface/tokenizers";
        const [folder, texts] = process.argv.slice(1);
        const read = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
        const tokenizer = new Tokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
        const ids = (text) => tokenizer.encode(text, { add_special_tokens: false }).ids;
        console.log(JSON.stringify(JSON.parse(texts).map(ids)));
    """
    command = ["node", "--input-type=module", "--eval", program, export.parent, json.dumps(texts)]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, check=True)
    ours = Tokenizer.from_file(str(export.parent / "tokenizer.json"))
    wanted = [ours.encode(text, add_special_tokens=False).ids for text in texts]
    assert json.loads(done.stdout) == wanted


def test_weights_stay_packed_in_memory(export: Path, tmp_path: Path) -> None:
    """Without the option of that name, all 16 million of them are decoded to float32 at load."""
    text = (EXAMPLE / "greedy.mjs").read_text(encoding="utf-8")
    assert text.count("disable_specified_optimizers") == 1
    folding = tmp_path / "folding.mjs"
    folding.write_text(text.replace("disable_specified_optimizers", "x"), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(EXAMPLE / "node_modules")
    packed, decoded = (peak_memory(p, export) for p in (EXAMPLE / "greedy.mjs", folding))
    assert decoded - packed > 40e6


# A process counts what its parent had when it began; this one has little, other than the tests'.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(program: Path, model: Path) -> int:
    """Most bytes of memory that the program has while it writes one token."""
    command = [sys.executable, "-c", MEASURED, "node", program, model, "x", "1"]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) * 1024


def test_the_command_in_the_readme_runs(export: Path) -> None:
    (line,) = re.findall(r"^node .*greedy\.mjs .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    node, program, *arguments = shlex.split(line)
    done = subprocess.run(
        [node, ROOT / program, *arguments],
        cwd=export.parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(done.stdout) > 40


@pytest.mark.parametrize("arguments", [[], ["MODEL"], ["MODEL", ""], ["MODEL", "x", "0"],
                                       ["MODEL", "x", "many"]])  # fmt: skip
def test_arguments_that_it_cannot_use_get_its_usage(export: Path, arguments: list[str]) -> None:
    given = [export if argument == "MODEL" else argument for argument in arguments]
    complains(given, "usage: greedy.mjs MODEL.onnx")


def test_a_file_that_is_not_there_is_named(export: Path) -> None:
    complains([export.with_name("other.onnx"), "x"], "other.onnx failed. File doesn't exist")
    complains([export.parent / "other" / "model.onnx", "x"], "no such file or directory")


def test_a_damaged_export_is_named(sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model)
    model.write_bytes(model.read_bytes()[:20_000])
    complains([model, "x"], f"[{model}] ")
    (tmp_path / "ferrum.json").write_text("{\n\n")
    complains([model, "x"], f"[{model}] ")


def test_caches_of_a_type_that_javascript_lacks_are_refused(sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model, BuildOptions(kv_dtype="bfloat16"))
    complains([model, "x"], "-> an export by ferrum-build, its caches float16 or float32")


def test_a_prompt_beyond_the_context_is_refused(sample: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    build(sample, model, BuildOptions(max_context=32))
    complains([model, "x " * 31 + "x"], "[prompt] 32 tokens -> at most 31 fit")
    assert written(model, "x " * 30 + "x", 9)


def complains(arguments: list[str | Path], message: str) -> None:
    """Refused in one line that has the message, with status 2."""
    done = greedy(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"greedy\.mjs: .*\n", done.stderr)
    assert message in done.stderr
