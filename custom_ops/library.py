"""The native library: where it lies, what it says of itself, and how a session gets it.

options = onnxruntime.SessionOptions()
register(options, arithmetic="exact")
session = onnxruntime.InferenceSession("model.onnx", options)
"""

from __future__ import annotations

import ctypes
import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

LIBRARY_NAME = "libferrum_ops.so"

Arithmetic = Literal["fast", "exact"]
Isa = Literal["auto", "generic", "avx2", "avx512", "neon"]
MoePath = Literal["auto", "one", "few", "grouped"]
BlockSize = Literal["auto", "8", "16", "32", "48", "64"]
GateUp = Literal["fused", "unfused"]
Route = Literal["graph", "host"]
PageIn = Literal["faults", "experts"]

_DEQUANTIZE_ERRORS = {
    1: "unknown ggml type",
    2: "the number of values is not a multiple of the type's block",
    3: "the number of bytes is not what that many values take",
}


def library_path() -> Path:
    """The library's file, absolute.

    The environment variable FERRUM_LIBRARY names another build, such as one with sanitizers.
    FileNotFoundError says where it was looked for.
    """
    named = os.environ.get("FERRUM_LIBRARY")
    if named:
        path = Path(named).absolute()
        if not path.is_file():
            raise FileNotFoundError(f"[ferrum] FERRUM_LIBRARY, got {named} -> an existing file")
        return path
    from ferrum import custom_ops

    # An editable install spreads the package over the checkout and site-packages.
    places = [Path(folder) for folder in custom_ops.__path__]
    for place in places:
        if (place / LIBRARY_NAME).is_file():
            return (place / LIBRARY_NAME).absolute()
    raise FileNotFoundError(
        f"[ferrum] {LIBRARY_NAME} is in none of {', '.join(map(str, places))} -> "
        "install the package (pip install .), or name a build in FERRUM_LIBRARY"
    )


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.ferrum_describe.argtypes = []
    library.ferrum_describe.restype = ctypes.c_char_p
    library.ferrum_profile.argtypes = [ctypes.c_int]
    library.ferrum_profile.restype = ctypes.c_char_p
    library.ferrum_dequantize.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t,
    ]  # fmt: skip
    library.ferrum_dequantize.restype = ctypes.c_int
    return library


def register(
    options: Any,
    *,
    arithmetic: Arithmetic = "fast",
    isa: Isa = "auto",
    moe_path: MoePath = "auto",
    moe_few_max: int | None = None,
    moe_block_size: BlockSize = "auto",
    moe_gate_up: GateUp = "fused",
    route: Route = "graph",
    page_in: PageIn = "faults",
    profile: bool = False,
) -> None:
    """Gives the sessions made with these onnxruntime.SessionOptions ferrum's kernels.

    arithmetic: "fast" multiplies activations in int8 blocks of 32, with BF16 weights in bfloat16
        where the machine has that, and attention over caches of 2 bytes in 16-bit integers where
        that is faster; "exact" multiplies in float32.
    isa: the instruction set; "auto" leaves it to FERRUM_ISA and then to the machine.
    moe_path: forces one of QuantMoE's ways; "auto" goes by the number of tokens, of which
        `moe_few_max` is the largest that takes "few"; None leaves that to the kernels, which on
        CUDA go by (token, slot) pairs. moe_gate_up="unfused" runs gate, up and SiLU
        as loops of their own. None of these changes a bit of the CPU's results.
    moe_block_size: on CUDA, how many of an expert's sorted (token, slot) pairs make a tile of its
        grouped products; "auto" goes by how many pairs there are.
    route: "host" leaves RouteTopK to ONNX Runtime's standard ops.
    page_in: "experts" has a step ask for the pages of all experts that a layer has chosen before
        it needs the first, for weights that do not all fit the memory; "faults" leaves it to page
        faults.
    profile: kernels time themselves; `read_profile` has the totals.

    What the library refuses (an unknown value, an instruction set that the machine does not have)
    is raised by onnxruntime as it registers, with the values that are allowed.
    """
    entries: dict[str, str] = {
        "arithmetic": arithmetic,
        "isa": isa,
        "moe_path": moe_path,
        "moe_block_size": moe_block_size,
        "moe_gate_up": moe_gate_up,
        "route": route,
        "page_in": page_in,
        "profile": "1" if profile else "0",
    }
    if moe_few_max is not None:
        entries["moe_few_max"] = str(moe_few_max)
    for key, value in entries.items():
        options.add_session_config_entry(f"ferrum.{key}", value)
    options.register_custom_ops_library(str(library_path()))


@cache
def _formats(path: Path) -> dict[int, dict[str, Any]]:
    """The library's quant table by ggml id, of types whose blocks lie one after the other."""
    quants = json.loads(_load(path).ferrum_describe())["quants"]
    return {quant["id"]: quant for quant in quants if not quant["fields"]}


def describe() -> dict[str, Any]:
    """What the loaded library says of itself.

    Keys: version, architecture, isas (those this machine runs, best first), isa (a session's by
    default; None where FERRUM_ISA names none of them), int16_attention (the isas where fast
    arithmetic multiplies caches of 2 bytes in 16-bit integers), quants (id, name, block, bytes,
    fields where they lie in planes, and the isas that take activations in int8, and rounded to
    bfloat16), ops (name, inputs, outputs, attributes, and host: on the CPU in every session), cuda
    (the compute capabilities, times ten, that there are CUDA kernels for, "ptx80" being PTX; empty
    without any), stages of a
    profile.
    """
    text = _load(library_path()).ferrum_describe()
    if text is None:
        raise MemoryError("[ferrum] no memory for the library's description")
    description: dict[str, Any] = json.loads(text)
    return description


def dequantize(type_id: int, blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The values of ggml blocks: uint8 [..., bytes] to float32 [..., values].

    ValueError where the type is unknown or a row is not whole blocks.
    """
    if blocks.dtype != np.uint8 or blocks.ndim == 0:
        raise ValueError(
            f"[dequantize] got {blocks.dtype} of rank {blocks.ndim} -> uint8 of rank 1 or more"
        )
    formats = _formats(library_path())
    if type_id not in formats:
        raise ValueError(f"[dequantize] ggml type {type_id} -> one of {sorted(formats)}")
    quant = formats[type_id]
    if blocks.shape[-1] % quant["bytes"]:
        raise ValueError(
            f"[dequantize] rows of {blocks.shape[-1]} bytes -> a multiple of "
            f"{quant['name']}'s {quant['bytes']}"
        )
    columns = blocks.shape[-1] // quant["bytes"] * quant["block"]
    source = np.ascontiguousarray(blocks)
    values = np.empty((*blocks.shape[:-1], columns), np.float32)
    error = _load(library_path()).ferrum_dequantize(
        type_id, source.ctypes.data, source.nbytes, values.ctypes.data, values.size
    )
    if error:
        raise ValueError(f"[dequantize] {_DEQUANTIZE_ERRORS[error]}")
    return values


def read_profile(*, reset: bool = False) -> dict[str, dict[str, float]]:
    """Calls and seconds per stage, of sessions registered with profile=True, since the last reset.

    The totals are the process's: sessions that run at the same time add up.
    """
    text = _load(library_path()).ferrum_profile(1 if reset else 0)
    if text is None:
        raise MemoryError("[ferrum] no memory for the profile")
    totals: dict[str, dict[str, float]] = json.loads(text)
    return totals
