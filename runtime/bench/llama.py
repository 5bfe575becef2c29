"""llama.cpp through llama-cpp-python's low-level interface: a model, and sequences to decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrum.runtime.bench.errors import BenchError

UBATCH = 512  # llama.cpp's default: most tokens that its graph takes at once
INSTALL = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install '.[bench]' --no-binary llama-cpp-python"


def require_llama() -> str:
    """llama-cpp-python's version; BenchError says how to install it."""
    return str(_package().__version__)


@dataclass(frozen=True)
class Piece:
    """Tokens of one sequence for a step, from a position on; logits only of the last, if at all."""

    sequence: int
    tokens: Sequence[int]
    start: int
    logits: bool


class Llama:
    """One GGUF, and one context at a time."""

    def __init__(self, path: Path, *, repack: bool) -> None:
        """Map the model; with `repack` weights are copied into another layout, as by default."""
        self._llama = _package().llama_cpp
        self._quiet = self._llama.llama_log_callback(lambda level, text, data: None)
        self._llama.llama_log_set(self._quiet, None)
        self._llama.llama_backend_init()
        params = self._llama.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        self._model = self._llama.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise BenchError(f"[{path}] llama.cpp refuses it")
        self._context: Any = None
        vocabulary = self._llama.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._llama.llama_vocab_n_tokens(vocabulary)

    def open(self, *, sequences: int, length: int, threads: int) -> None:
        """A context for sequences of up to `length` tokens: flash attention, float16 caches."""
        self.close()
        params = self._llama.llama_context_default_params()
        params.n_seq_max = sequences
        params.n_ctx = sequences * -(-length // 256) * 256  # it rounds up itself
        params.n_batch = params.n_ubatch = UBATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = self._llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = self._llama.llama_init_from_model(self._model, params)
        if not self._context:
            raise BenchError(f"[llama.cpp] no context for {sequences} x {length} tokens")
        self.cells: int = self._llama.llama_n_ctx(self._context)
        self._batch = self._llama.llama_batch_init(UBATCH, 0, 1)

    def decode(self, pieces: Sequence[Piece]) -> None:
        """One step; returns when the logits asked for are there."""
        batch, count = self._batch, 0
        for piece in pieces:
            last = len(piece.tokens) - 1
            for i, token in enumerate(piece.tokens):
                batch.token[count] = token
                batch.pos[count] = piece.start + i
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = piece.sequence
                batch.logits[count] = piece.logits and i == last
                count += 1
        batch.n_tokens = count
        status = self._llama.llama_decode(self._context, batch)
        if status:
            raise BenchError(f"[llama.cpp] llama_decode returned {status}")
        self._llama.llama_synchronize(self._context)

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """The logits of the batch's token `row`, float32[vocabulary], where the last step left
        them."""
        pointer = self._llama.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))

    def trim(self, sequence: int, length: int) -> None:
        """Forget a sequence's tokens from `length` on."""
        memory = self._llama.llama_get_memory(self._context)
        if not self._llama.llama_memory_seq_rm(memory, sequence, length, -1):
            raise BenchError(f"[llama.cpp] cannot cut sequence {sequence} to {length} tokens")

    def close(self) -> None:
        """Give the context back."""
        if self._context is not None:
            self._llama.llama_batch_free(self._batch)
            self._llama.llama_free(self._context)
            self._context = None


def _package() -> Any:
    try:
        import llama_cpp
    except ImportError:
        raise BenchError(f"[--vs] llama-cpp-python is not installed -> {INSTALL}") from None
    return llama_cpp
