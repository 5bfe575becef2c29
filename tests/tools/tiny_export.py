"""A tiny export for tests of the runtime: the graph's inputs and outputs, in standard ops only.

Its logits follow from every token of a sequence and from where each stands, by small whole numbers
that float32 holds exactly. So `expected_logits` gives the very same bits, and a token that is lost,
doubled, misplaced or read from another sequence shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYERS, HEADS, DIM = 2, 1, 4
BYTES = 256
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("o", "u")]
SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = BYTES + len(MERGES) + len(SPECIAL)
END, IM_START, IM_END = range(VOCABULARY - 3, VOCABULARY)
CONTEXT = 96
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KV_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}

_random = np.random.default_rng(5)
EMBED = _random.integers(-9, 10, (LAYERS, 2, VOCABULARY, DIM)).astype(np.float32)
HEAD = _random.integers(-20, 21, (2 * LAYERS * DIM, VOCABULARY)).astype(np.float32)
MODULUS = np.float32(509)


def expected_logits(tokens: Sequence[int]) -> np.ndarray:
    """What the graph gives for the last token of a sequence: float32[VOCABULARY]."""
    weights = (np.arange(len(tokens)) % 7 + 1).astype(np.float32)
    sums = [
        (EMBED[layer, kind][list(tokens)] * weights[:, None]).sum(0)
        for layer in range(LAYERS)
        for kind in range(2)
    ]
    return np.fmod(np.concatenate(sums) @ HEAD, MODULUS).astype(np.float32)


def greedy(prompt: Sequence[int], count: int) -> list[int]:
    """`count` tokens, each the likeliest after all before."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(expected_logits(tokens).argmax()))
    return tokens[len(prompt) :]


def write(folder: Path, *, kv_dtype: str = "float32", name: str = "tiny.onnx") -> Path:
    """Write the export into `folder`; the path of its .onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(kv_dtype), folder / name)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    weights = bytes(range(256)) * 4
    (folder / "tiny.gguf").write_bytes(weights)
    source = {"file": "tiny.gguf", "bytes": len(weights), "header_bytes": 100,
              "header_sha256": hashlib.sha256(weights[:100]).hexdigest()}  # fmt: skip
    manifest = {
        "format": 1,
        "ferrum": "0.0.0",
        "model": {
            "architecture": "tiny", "name": "tiny", "layers": LAYERS, "kv_heads": HEADS,
            "head_dim": DIM, "experts": 4, "vocabulary": VOCABULARY, "context_length": CONTEXT,
        },
        "graph": {"file": name, "kv_dtype": kv_dtype, "activation_dtype": "float32"},
        "source": {"files": [source]},
        "tokenizer": {"file": "tokenizer.json", "chat_template": "chat_template.jinja",
                      "bos": None, "eos": [END], "pad": END, "add_bos": False},
        "types": {},
    }  # fmt: skip
    (folder / "ferrum.json").write_text(json.dumps(manifest))
    return folder / name


def tokenizer() -> Tokenizer:
    """Byte-level BPE over all bytes, a few merges and three special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(alphabet)}
    for left, right in MERGES:
        vocabulary[left + right] = len(vocabulary)
    result = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return result


def graph(kv_dtype: str) -> onnx.ModelProto:
    """Per layer and kind the cache takes a row of a table for each token; the head reads them."""
    g = _Writer()
    g.arrays(zero=0, one=1, ends=2**62, seven=7)
    g.arrays(row=[-1, DIM], starts=[0], firsts=[1], lasts=[-1], maximum=[2**62])
    # Which sequence each token is of, and its position there.
    g("Cast", "bounds", ["cumulative_sequence_lengths"], to=TensorProto.INT64)
    g("Cast", "past", ["past_sequence_lengths"], to=TensorProto.INT64)
    g("Cast", "table", ["block_table"], to=TensorProto.INT64)
    g("Slice", "upper", ["bounds", "firsts", "maximum"])
    g("Slice", "lower", ["bounds", "starts", "lasts"])
    g("Size", "count", ["input_ids"])
    g("Range", "tokens", ["zero", "count", "one"])
    g("Unsqueeze", "tokens_column", ["tokens", "firsts"])
    g("GreaterOrEqual", "beyond", ["tokens_column", "upper"])
    g("Cast", "beyond_int", ["beyond"], to=TensorProto.INT64)
    g("ReduceSum", "sequence", ["beyond_int", "firsts"], keepdims=0)
    g("Gather", "own_past", ["past", "sequence"])
    g("Gather", "own_start", ["lower", "sequence"])
    g("Sub", "within", ["tokens", "own_start"])
    g("Add", "position", ["own_past", "within"])
    # The positions that each sequence's last token sees.
    g("Sub", "new", ["upper", "lower"])
    g("Add", "total", ["past", "new"])
    g("Unsqueeze", "total_column", ["total", "firsts"])
    g("ReduceMax", "longest", ["total"], keepdims=0)
    g("Range", "seen", ["zero", "longest", "one"])
    g("Less", "mask_2", ["seen", "total_column"])
    g("Unsqueeze", "mask", ["mask_2", "lasts"])
    g("Mod", "seen_mod", ["seen", "seven"])
    g("Add", "weight_int", ["seen_mod", "one"])
    g("Cast", "weight", ["weight_int"], to=TensorProto.FLOAT)
    g("Unsqueeze", "weight_column", ["weight", "lasts"])
    names = []
    for layer in range(LAYERS):
        for kind, word in enumerate(("key", "value")):
            names.append(_cache(g, layer, kind, word, KV_TYPES[kv_dtype]))
    g("Concat", "state", names, axis=-1)
    g.initializer("head", HEAD)
    g.initializer("modulus", MODULUS)
    g("MatMul", "products", ["state", "head"])
    g("Mod", "logits", ["products", "modulus"], fmod=1)
    return g.model(kv_dtype)


def _cache(g: _Writer, layer: int, kind: int, word: str, kv_type: int) -> str:
    """Write the step's tokens into one cache, then sum what each sequence sees of it."""
    past, at = f"past_key_values.{layer}.{word}", f"blk.{layer}.{word}."
    g("Shape", at + "shape", [past])
    g("Gather", at + "block_size", [at + "shape", "one"])
    g("Reshape", at + "slots", [past, "row"])
    # Slots of the step's tokens.
    g("Div", at + "column", ["position", at + "block_size"])
    g("Mod", at + "offset", ["position", at + "block_size"])
    g("Unsqueeze", at + "column_2", [at + "column", "firsts"])
    g("Unsqueeze", at + "sequence_2", ["sequence", "firsts"])
    g("Concat", at + "place", [at + "sequence_2", at + "column_2"], axis=1)
    g("GatherND", at + "block", ["table", at + "place"])
    g("Mul", at + "base", [at + "block", at + "block_size"])
    g("Add", at + "slot", [at + "base", at + "offset"])
    g("Unsqueeze", at + "slot_2", [at + "slot", "firsts"])
    g.initializer(at + "embed", EMBED[layer, kind])
    g("Gather", at + "rows", [at + "embed", "input_ids"])
    g("Cast", at + "rows_kv", [at + "rows"], to=kv_type)
    g("ScatterND", at + "written", [at + "slots", at + "slot_2", at + "rows_kv"])
    g("Reshape", f"present.{layer}.{word}", [at + "written", at + "shape"])
    # What each sequence sees; a column beyond its own table is -1 and masked.
    g("Div", at + "seen_column", ["seen", at + "block_size"])
    g("Mod", at + "seen_offset", ["seen", at + "block_size"])
    g("Gather", at + "seen_block", ["table", at + "seen_column"], axis=1)
    g("Max", at + "seen_known", [at + "seen_block", "zero"])
    g("Mul", at + "seen_base", [at + "seen_known", at + "block_size"])
    g("Add", at + "seen_slot", [at + "seen_base", at + "seen_offset"])
    g("Gather", at + "seen_rows", [at + "written", at + "seen_slot"])
    g("Cast", at + "seen_float", [at + "seen_rows"], to=TensorProto.FLOAT)
    g("Mul", at + "weighted", [at + "seen_float", "weight_column"])
    g.initializer(at + "nothing", np.float32(0))
    g("Where", at + "masked", ["mask", at + "weighted", at + "nothing"])
    g("ReduceSum", at + "sum", [at + "masked", "firsts"], keepdims=0)
    return at + "sum"


class _Writer:
    """Nodes and constants of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, output: str, inputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))

    def initializer(self, name: str, value: Any) -> None:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))

    def arrays(self, **values: Any) -> None:
        for name, value in values.items():
            self.initializer(name, np.asarray(value, np.int64))

    def model(self, kv_dtype: str) -> onnx.ModelProto:
        port, shape = helper.make_tensor_value_info, ["num_blocks", "block_size", HEADS, DIM]
        caches = [(layer, word) for layer in range(LAYERS) for word in ("key", "value")]
        inputs = [
            port("input_ids", TensorProto.INT64, ["num_tokens"]),
            port("cumulative_sequence_lengths", TensorProto.INT32, ["batch_size + 1"]),
            port("past_sequence_lengths", TensorProto.INT32, ["batch_size"]),
            port("block_table", TensorProto.INT32, ["batch_size", "max_num_blocks"]),
            *(port(f"past_key_values.{i}.{x}", KV_TYPES[kv_dtype], shape) for i, x in caches),
        ]
        outputs = [
            port("logits", TensorProto.FLOAT, ["batch_size", VOCABULARY]),
            *(port(f"present.{i}.{x}", KV_TYPES[kv_dtype], shape) for i, x in caches),
        ]
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", 18)]
        return helper.make_model(graph, ir_version=8, opset_imports=opset)
