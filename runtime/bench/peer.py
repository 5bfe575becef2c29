"""Another engine as the benchmark calls it: a shared library with a few C functions over a GGUF.

    const char *peer_name(void);                            /* as tables name it */
    void *peer_load(const char *path, bool repack);         /* a model; NULL if refused */
    int32_t peer_vocabulary(void *model);
    /* A context of flash attention and float16 caches. Returns their tokens, or 0. */
    int32_t peer_open(void *model, int32_t sequences, int32_t length, int32_t threads,
                      int32_t step_tokens);
    /* One step of `count` tokens, done when the logits asked for are there. Returns 0, or why. */
    int32_t peer_decode(void *model, int32_t count, const int32_t *tokens,
                        const int32_t *positions, const int32_t *sequences, const bool *logits);
    const float *peer_logits(void *model, int32_t row);     /* of the last step's token `row` */
    bool peer_trim(void *model, int32_t sequence, int32_t length);
    void peer_close(void *model);                           /* the context */

tests/tools/ik_llama_peer.cc is one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.llama import UBATCH, Piece

_INT, _MODEL = ctypes.c_int32, ctypes.c_void_p
_INTS, _BOOLS = ctypes.POINTER(_INT), ctypes.POINTER(ctypes.c_bool)
_FLOATS = ctypes.POINTER(ctypes.c_float)
_FUNCTIONS = {
    "peer_name": (ctypes.c_char_p, []),
    "peer_load": (_MODEL, [ctypes.c_char_p, ctypes.c_bool]),
    "peer_vocabulary": (_INT, [_MODEL]),
    "peer_open": (_INT, [_MODEL, _INT, _INT, _INT, _INT]),
    "peer_decode": (_INT, [_MODEL, _INT, _INTS, _INTS, _INTS, _BOOLS]),
    "peer_logits": (_FLOATS, [_MODEL, _INT]),
    "peer_trim": (ctypes.c_bool, [_MODEL, _INT, _INT]),
    "peer_close": (None, [_MODEL]),
}


def peer_name(library: Path) -> str:
    """What the engine calls itself; BenchError where the library lacks a function."""
    name: bytes = _open(library).peer_name()
    return name.decode()


class Peer:
    """One GGUF in that engine, and one context at a time; see Llama."""

    def __init__(self, library: Path, path: Path, *, repack: bool) -> None:
        self._peer, self._library = _open(library), library
        self._model = self._peer.peer_load(str(path).encode(), repack)
        if not self._model:
            raise BenchError(f"[{path}] {library} refuses it")
        self._opened = False
        self.vocabulary: int = self._peer.peer_vocabulary(self._model)

    def open(self, *, sequences: int, length: int, threads: int) -> None:
        """A context for sequences of up to `length` tokens."""
        self.close()
        self.cells: int = self._peer.peer_open(self._model, sequences, length, threads, UBATCH)
        if not self.cells:
            raise BenchError(f"[{self._library}] no context for {sequences} x {length} tokens")
        self._opened = True

    def decode(self, pieces: Sequence[Piece]) -> None:
        """One step; returns when the logits asked for are there."""
        tokens = [token for piece in pieces for token in piece.tokens]
        positions = [piece.start + i for piece in pieces for i in range(len(piece.tokens))]
        sequences = [piece.sequence for piece in pieces for _ in piece.tokens]
        logits = [
            piece.logits and i == len(piece.tokens) - 1
            for piece in pieces
            for i in range(len(piece.tokens))
        ]
        ints, bools = _INT * len(tokens), ctypes.c_bool * len(tokens)
        status = self._peer.peer_decode(
            self._model, len(tokens), ints(*tokens), ints(*positions), ints(*sequences),
            bools(*logits),
        )  # fmt: skip
        if status:
            raise BenchError(f"[{self._library}] peer_decode returned {status}")

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """The logits of the last step's token `row`, float32[vocabulary], where they lie."""
        pointer = self._peer.peer_logits(self._model, row)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))

    def trim(self, sequence: int, length: int) -> None:
        """Forget a sequence's tokens from `length` on."""
        if not self._peer.peer_trim(self._model, sequence, length):
            raise BenchError(f"[{self._library}] cannot cut sequence {sequence} to {length} tokens")

    def close(self) -> None:
        """Give the context back."""
        if self._opened:
            self._peer.peer_close(self._model)
            self._opened = False


def _open(library: Path) -> ctypes.CDLL:
    try:
        opened = ctypes.CDLL(str(library.absolute()))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(opened, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise BenchError(
            f"[--vs-library] {error} -> a library with the functions of ferrum.runtime.bench.peer"
        ) from None
    return opened
