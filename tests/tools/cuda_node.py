"""One ferrum node on the CUDA kernels: emulated on the CPU or, where told so, on a GPU.

TEST_DEVICE=cuda runs the tests of tests/custom_ops/native/cuda on the GPU, with the library
of the installed package. Without it they run on a library whose CPU kernels are the CUDA ones
(`make build/cuda-on-cpu/libferrum_ops.so`; `make test` makes it).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import native_node
import numpy as np
import onnxruntime as ort

ROOT = Path(__file__).resolve().parent.parent.parent
EMULATED = Path(os.environ.get("CUDA_ON_CPU", ROOT / "build" / "cuda-on-cpu" / "libferrum_ops.so"))
ON_GPU = os.environ.get("TEST_DEVICE") == "cuda"


@contextmanager
def library() -> Iterator[None]:
    """FERRUM_LIBRARY names the emulated library meanwhile."""
    if ON_GPU:
        yield
        return
    assert EMULATED.is_file(), f"{EMULATED} is missing: make {EMULATED.relative_to(ROOT)}"
    before = os.environ.get("FERRUM_LIBRARY")
    os.environ["FERRUM_LIBRARY"] = str(EMULATED)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FERRUM_LIBRARY"]
        else:
            os.environ["FERRUM_LIBRARY"] = before


def session(op_name: str, attributes: Mapping[str, Any], **options: Any) -> ort.InferenceSession:
    """As native_node's, over the CUDA kernels."""
    provider = "CUDAExecutionProvider" if ON_GPU else "CPUExecutionProvider"
    with library():
        return native_node.session(op_name, attributes, provider=provider, **options)


def run(
    op_name: str, inputs: native_node.Arrays, attributes: Mapping[str, Any], **options: Any
) -> list[np.ndarray]:
    """The node's outputs over a session of its own."""
    outputs: list[np.ndarray] = session(op_name, attributes, **options).run(None, dict(inputs))
    return outputs
