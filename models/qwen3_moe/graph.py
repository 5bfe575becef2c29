"""A Qwen3-MoE config and its tensors to a graph: the forward pass as a person would write it.

Inputs and outputs are those that onnxruntime-genai's paged engine binds, so one file serves both
runtimes. A step is T tokens of B sequences, laid end to end; `cumulative_sequence_lengths` cuts
them. Values that are worth looking at have names: see `layer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from ferrum.models.graph import Graph, StoredTensor
from ferrum.models.qwen3_moe.config import Qwen3MoeConfig
from ferrum.models.qwen3_moe.names import EMBEDDING, FINAL_NORM, HEAD, layer_name

# Element types of the caches, and of activations between ops.
DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


class Qwen3MoeGraph:
    """Writes one model; `tensors` have been checked against the config."""

    def __init__(
        self,
        config: Qwen3MoeConfig,
        tensors: Mapping[str, StoredTensor],
        locations: Mapping[Path, str],
        kv_dtype: str,
        norms: Mapping[str, npt.NDArray[np.float32]],
        cpu_experts: int = 0,
        dtype: str = "float32",
    ) -> None:
        """`norms` holds the decoded values of norm weights that are not stored as F32; the experts
        of the first `cpu_experts` layers run on the CPU whatever the rest runs on. `dtype` is the
        activations' between the embedding and the final norm, but for what chooses experts."""
        self.config = config
        self.graph = Graph("qwen3moe", locations)
        self._tensors = tensors
        self._kv_dtype = DTYPES[kv_dtype]
        self._norms = norms
        self._cpu_experts = cpu_experts
        self._dtype = DTYPES[dtype]

    def write(self) -> Graph:
        """The whole graph, token ids to logits of each sequence's last token."""
        g, c = self.graph, self.config
        ids = g.input("input_ids", TensorProto.INT64, ["num_tokens"])
        bounds = g.input("cumulative_sequence_lengths", TensorProto.INT32, ["batch_size + 1"])
        g.input("past_sequence_lengths", TensorProto.INT32, ["batch_size"])
        g.input("block_table", TensorProto.INT32, ["batch_size", "max_num_blocks"])
        g.output("logits", TensorProto.FLOAT, ["batch_size", c.vocabulary])
        g.constant("inv_freq", c.inv_freq())

        g.op("QuantGather", "embed", [ids, self._blocks(EMBEDDING)], ["embedding"],
             type=self._type(EMBEDDING))  # fmt: skip
        residual = self._cast("embedding", self._dtype)
        g.op("RMSNorm", "blk.0.norm", [residual, self._norm(layer_name(0, "attn_norm.weight"))],
             ["blk.0.input"], epsilon=c.rms_epsilon)  # fmt: skip
        for i in range(c.layers):
            residual = self.layer(i, residual, bounds)
        head = EMBEDDING if c.tied_embeddings else HEAD
        g.op("QuantMatMul", "lm_head", ["final", self._blocks(head)], ["logits"],
             type=self._type(head))  # fmt: skip
        return g

    def layer(self, i: int, residual: str, bounds: str) -> str:
        """One layer, from `blk.<i>.input` (normed) to the next layer's; returns its own sum.

        Named values: blk.<i>.attention (before the output projection), .router_logits,
        .expert_weights, .expert_ids, .moe (the experts' sum) and .output (the residual stream;
        in the last layer only the rows that logits are wanted of).
        """
        g, c, at = self.graph, self.config, f"blk.{i}."
        self._attention(i)
        g.op("QuantMatMul", at + "o", [at + "attention", self._blocks(at + "attn_output.weight")],
             [at + "attention_output"], type=self._type(at + "attn_output.weight"))  # fmt: skip
        g.op("AddRMSNorm", at + "norm_2",
             [at + "attention_output", residual, self._norm(at + "ffn_norm.weight")],
             [at + "normed", at + "residual"], epsilon=c.rms_epsilon)  # fmt: skip
        self._experts(i)
        if i + 1 < c.layers:
            moe, total, name = at + "moe", at + "residual", f"blk.{i + 1}.norm"
            weight, normed = layer_name(i + 1, "attn_norm.weight"), f"blk.{i + 1}.input"
        else:
            moe, total = self._last_rows(at, bounds)
            name, weight, normed = "norm", FINAL_NORM, "final"
        g.op("AddRMSNorm", name, [moe, total, self._norm(weight)], [normed, at + "output"],
             epsilon=c.rms_epsilon)  # fmt: skip
        return at + "output"

    def _attention(self, i: int) -> None:
        g, c, at = self.graph, self.config, f"blk.{i}."
        wq, wk, wv = (f"{at}attn_{x}.weight" for x in "qkv")
        g.op("QuantQKV", at + "qkv",
             [at + "input", self._blocks(wq), self._blocks(wk), self._blocks(wv)],
             [at + "q", at + "k", at + "v"],
             q_type=self._type(wq), k_type=self._type(wk), v_type=self._type(wv))  # fmt: skip
        shape: list[int | str] = ["num_blocks", "block_size", c.kv_heads, c.head_dim]
        caches = [
            g.input(f"past_key_values.{i}.{x}", self._kv_dtype, shape) for x in ("key", "value")
        ]
        grown = [g.output(f"present.{i}.{x}", self._kv_dtype, shape) for x in ("key", "value")]
        g.op("PagedAttention", at + "attention",
             [at + "q", at + "k", at + "v", *caches, "block_table",
              "cumulative_sequence_lengths", "past_sequence_lengths",
              self._norm(at + "attn_q_norm.weight"), self._norm(at + "attn_k_norm.weight"),
              "inv_freq"],
             [at + "attention", *grown],
             num_heads=c.heads, kv_num_heads=c.kv_heads, scale=c.head_dim**-0.5,
             epsilon=c.rms_epsilon, rope_scale=c.rope_scale)  # fmt: skip

    def _experts(self, i: int) -> None:
        g, c, at = self.graph, self.config, f"blk.{i}."
        router = at + "ffn_gate_inp.weight"
        gate, up, down = (f"{at}ffn_{x}_exps.weight" for x in ("gate", "up", "down"))
        # Logits that were rounded could choose another expert.
        g.op("QuantMatMul" if self._dtype == TensorProto.FLOAT else "QuantLogits", at + "router",
             [at + "normed", self._blocks(router)],
             [at + "router_logits"], type=self._type(router))  # fmt: skip
        g.op("RouteTopK", at + "route", [at + "router_logits"],
             [at + "expert_weights", at + "expert_ids"],
             k=c.experts_per_token, normalize=int(c.normalize_expert_weights),
             scale=c.expert_weights_scale)  # fmt: skip
        # The first layers, as llama.cpp's --n-cpu-moe has it: any others would cost the same.
        g.op("HostQuantMoE" if i < self._cpu_experts else "QuantMoE", at + "moe",
             [at + "normed", at + "expert_weights", at + "expert_ids",
              self._blocks(gate), self._blocks(up), self._blocks(down)],
             [at + "moe"],
             gate_type=self._type(gate), up_type=self._type(up),
             down_type=self._type(down))  # fmt: skip

    def _last_rows(self, at: str, bounds: str) -> tuple[str, str]:
        """Only the last token of each sequence goes through the final norm and the head, in
        float32."""
        g = self.graph
        starts = g.constant("last_rows.starts", np.array([1], np.int64))
        ends = g.constant("last_rows.ends", np.array([np.iinfo(np.int64).max], np.int64))
        one = g.constant("last_rows.one", np.array(1, np.int32))
        g.standard("Slice", "last_rows.slice", [bounds, starts, ends], "last_rows.bounds")
        g.standard("Sub", "last_rows.sub", ["last_rows.bounds", one], "last_rows")
        g.standard("Gather", "last_rows.moe", [at + "moe", "last_rows"], at + "moe_last", axis=0)
        g.standard("Gather", "last_rows.residual", [at + "residual", "last_rows"],
                   at + "residual_last", axis=0)  # fmt: skip
        moe, residual = (
            self._cast(at + name, TensorProto.FLOAT) for name in ("moe_last", "residual_last")
        )
        return moe, residual

    def _cast(self, value: str, dtype: int) -> str:
        """An activation from float32 to the graph's own type, or back; itself if they are one."""
        if self._dtype == TensorProto.FLOAT:
            return value
        name = f"{value}.{TensorProto.DataType.Name(dtype).lower()}"
        self.graph.standard("Cast", name, [value], name, to=dtype)
        return name

    def _blocks(self, name: str) -> str:
        return self.graph.blocks(self._tensors[name])

    def _norm(self, name: str) -> str:
        if name in self._norms:
            return self.graph.constant(name, self._norms[name])
        return self.graph.floats(self._tensors[name])

    def _type(self, name: str) -> int:
        return self._tensors[name].type
