"""What a graph must do: bytes that decoding reads and multiply-adds that prompts take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ferrum.custom_ops.quants import QUANTS
from ferrum.runtime.bench.cases import Case
from ferrum.runtime.graph import LOGITS

_EXPERTS = ("QuantMoE", "HostQuantMoE")


@dataclass(frozen=True)
class Work:
    """Counted from the nodes of an export. Bytes are of weights in the file."""

    dense_bytes: int  # read in every step: projections, routers, norms, the head
    expert_bytes: int  # one expert of each layer that has any, all layers together
    embedding_bytes: int  # a row
    experts: int
    experts_used: int
    int8_macs: int  # per token, without the head
    float32_macs: int  # per token, without the head and attention's own
    head_macs: int  # per sequence and step
    head_is_int8: bool
    attention_macs: int  # per token and token of context before it
    kv_bytes: int  # per token of context, all layers

    def experts_read(self, batch: int) -> float:
        """Different experts of a layer that a step of `batch` tokens reads.

        For one token that is what it uses; for more an expectation, as if all were equally likely.
        """
        if not self.experts:
            return 0.0
        missed: float = (1 - self.experts_used / self.experts) ** batch
        return self.experts * (1 - missed)

    def decode_bytes(self, case: Case) -> float:
        """Bytes of weights and caches that a step of a decode reads, averaged over its steps."""
        context = case.context + (case.tokens + 1) / 2
        return (
            self.dense_bytes
            + self.expert_bytes * self.experts_read(case.batch)
            + case.batch * (self.embedding_bytes + self.kv_bytes * context)
        )

    def prefill_macs(self, case: Case) -> tuple[float, float]:
        """Multiply-adds of a case's prompts: (in int8, in float32 with attention's own)."""
        n, head = case.tokens, self.head_macs
        int8 = self.int8_macs * n + (head if self.head_is_int8 else 0)
        float32 = self.float32_macs * n + (0 if self.head_is_int8 else head)
        attention = self.attention_macs * n * (n + 1) / 2
        return case.batch * int8, case.batch * (float32 + attention)


def work_of(graph: Path, kv_bytes: int) -> Work:
    """Count the work of an export's .onnx; weights are not read.

    `kv_bytes`: what a token takes in the caches of all layers.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    sizes = {
        tensor.name: tuple(int(size) for size in tensor.dims)
        for tensor in model.graph.initializer
        if tensor.external_data  # constants of the graph are small and stay in caches
    }
    counts = _Counts(sizes)
    for node in model.graph.node:
        counts.add(node, {a.name: a.i for a in node.attribute})
    return counts.work(kv_bytes)


class _Counts:
    """Sums over the nodes."""

    def __init__(self, sizes: dict[str, tuple[int, ...]]) -> None:
        self._sizes, self._head = sizes, ""
        self._total = dict.fromkeys(
            ("dense", "expert", "embedding", "experts", "used", "int8", "float32", "head",
             "attention"), 0,
        )  # fmt: skip

    def add(self, node: Any, attributes: dict[str, int]) -> None:
        """Count one node."""
        total = self._total
        if node.op_type == "QuantGather":
            total["embedding"] += self._sizes[node.input[1]][-1]
        elif node.op_type in _EXPERTS:
            for shape, kind, macs in self._weights(node, attributes):
                total["experts"] = shape[0]
                total["expert"] += prod(shape[1:])
                total[kind] += macs
        elif node.op_type in ("QuantQKV", "QuantMatMul", "QuantLogits"):
            for shape, kind, macs in self._weights(node, attributes):
                total["dense"] += prod(shape)
                if node.output[0] == LOGITS:
                    total["head"] += macs
                    self._head = kind
                else:
                    total[kind] += macs
        elif node.op_type == "RouteTopK":
            total["used"] = attributes["k"]
        elif node.op_type in ("RMSNorm", "AddRMSNorm", "PagedAttention"):
            floats = [self._sizes[name] for name in node.input if name in self._sizes]
            total["dense"] += 4 * sum(prod(shape) for shape in floats)
            if node.op_type == "PagedAttention":
                head_dim = self._sizes[node.input[8]][0]  # the norm of a query head
                total["attention"] += 2 * attributes["num_heads"] * head_dim

    def work(self, kv_bytes: int) -> Work:
        """The sums as they stand; the experts' products are those of the experts used."""
        total = self._total
        return Work(
            dense_bytes=total["dense"],
            expert_bytes=total["expert"],
            embedding_bytes=total["embedding"],
            experts=total["experts"],
            experts_used=total["used"],
            int8_macs=total["int8"],
            float32_macs=total["float32"],
            head_macs=total["head"],
            head_is_int8=self._head == "int8",
            attention_macs=total["attention"],
            kv_bytes=kv_bytes,
        )

    def _weights(
        self, node: Any, attributes: dict[str, int]
    ) -> Iterator[tuple[tuple[int, ...], str, int]]:
        """Shape in bytes, arithmetic and multiply-adds per token of each matrix of a node."""
        names = [name for name in node.input if name in self._sizes]
        types = [value for name, value in attributes.items() if name.endswith("type")]
        for name, type_id in zip(names, types, strict=True):
            quant, shape = QUANTS.by_id(type_id), self._sizes[name]
            values = shape[-1] // quant.bytes * quant.block
            macs = shape[-2] * values
            if node.op_type in _EXPERTS:
                macs *= self._used()
            yield shape, "float32" if quant.is_float else "int8", macs

    def _used(self) -> int:
        """A layer's router comes before its experts in the graph."""
        return self._total["used"]
