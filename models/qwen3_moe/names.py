"""The tensors of a Qwen3-MoE GGUF: one table of names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ferrum.custom_ops.quants import QUANTS
from ferrum.models.graph import StoredTensor
from ferrum.models.qwen3_moe.config import ModelError, Qwen3MoeConfig
from ferrum.models.qwen3_moe.metadata import shown

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorRow:
    """A tensor's name and its shape in ggml order, innermost (the row) first."""

    name: str
    shape: Callable[[Qwen3MoeConfig], Shape]


EMBEDDING = "token_embd.weight"
FINAL_NORM = "output_norm.weight"
HEAD = "output.weight"

MODEL_TENSORS = (
    TensorRow(EMBEDDING, lambda c: (c.hidden, c.vocabulary)),
    TensorRow(FINAL_NORM, lambda c: (c.hidden,)),
)

# Names follow "blk.<layer>.".
LAYER_TENSORS = (
    TensorRow("attn_norm.weight", lambda c: (c.hidden,)),
    TensorRow("attn_q.weight", lambda c: (c.hidden, c.heads * c.head_dim)),
    TensorRow("attn_k.weight", lambda c: (c.hidden, c.kv_heads * c.head_dim)),
    TensorRow("attn_v.weight", lambda c: (c.hidden, c.kv_heads * c.head_dim)),
    TensorRow("attn_q_norm.weight", lambda c: (c.head_dim,)),
    TensorRow("attn_k_norm.weight", lambda c: (c.head_dim,)),
    TensorRow("attn_output.weight", lambda c: (c.heads * c.head_dim, c.hidden)),
    TensorRow("ffn_norm.weight", lambda c: (c.hidden,)),
    TensorRow("ffn_gate_inp.weight", lambda c: (c.hidden, c.experts)),
    TensorRow("ffn_gate_exps.weight", lambda c: (c.hidden, c.expert_width, c.experts)),
    TensorRow("ffn_up_exps.weight", lambda c: (c.hidden, c.expert_width, c.experts)),
    TensorRow("ffn_down_exps.weight", lambda c: (c.expert_width, c.hidden, c.experts)),
)


def layer_name(layer: int, name: str) -> str:
    """The full name of a layer's tensor."""
    return f"blk.{layer}.{name}"


def expected_tensors(config: Qwen3MoeConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor the model must have, with its shape."""
    for row in MODEL_TENSORS:
        yield row.name, row.shape(config)
    if not config.tied_embeddings:
        yield HEAD, (config.hidden, config.vocabulary)
    for layer in range(config.layers):
        for row in LAYER_TENSORS:
            yield layer_name(layer, row.name), row.shape(config)


def check_tensors(config: Qwen3MoeConfig, tensors: Mapping[str, StoredTensor]) -> None:
    """ModelError unless `tensors` are the model's, each of its shape; unknown ones are refused.

    A tensor that the graph would leave out (a bias, say) would change the result without a word.
    """
    expected = dict(expected_tensors(config))
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelError(f"tensor {name}: missing -> shape {_shown(shape)}")
        if tuple(tensor.shape) != shape:
            raise ModelError(f"tensor {name}: shape {_shown(tensor.shape)} -> {_shown(shape)}")
        if tensor.type not in QUANTS:
            raise ModelError(f"tensor {name}: type id {tensor.type} -> a type of weights")
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ModelError(
            f"tensor {_named(unknown[0])}{more}: not part of a {config.layers}-layer qwen3moe"
        )


def _named(name: str) -> str:
    """A name from a file in a one-line message: what is not plain is escaped and cut."""
    return name if name.isprintable() and name.isascii() and len(name) <= 80 else shown(name)


def _shown(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
