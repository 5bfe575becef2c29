"""What decides every bit of a block of the KV caches beside its tokens, to tell files apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnxruntime as ort

from ferrum.custom_ops.library import describe
from ferrum.runtime.artifact import Artifact
from ferrum.runtime.cudart import cuda_runtime
from ferrum.runtime.settings import Settings

_SPOTS, _SPOT_BYTES = 64, 4096  # of a file of weights that are looked at; all would take minutes


def cache_stamp(artifact: Artifact, settings: Settings) -> dict[str, str | int]:
    """Names and values; where two stamps agree, one's blocks are as good as the other's."""
    model, graph = artifact.manifest.model, artifact.manifest.graph
    return {
        "model": model.name,
        "layers": model.layers,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "kv_dtype": graph.kv_dtype,
        "graph": hashlib.sha256(artifact.path.read_bytes()).hexdigest(),
        "weights": _weights(artifact),
        "block_size": settings.block_size,
        "arithmetic": settings.arithmetic,
        "route": settings.route,
        "kernels": _kernels(settings),
    }


def _weights(artifact: Artifact) -> str:
    """A digest of the files' sizes, of their headers and of spots all over them."""
    whole = hashlib.sha256()
    for path, source in zip(artifact.weights, artifact.manifest.source.files, strict=True):
        whole.update(f"{source.bytes} {source.header_sha256}".encode())
        _add_spots(whole, path, source.bytes)
    return whole.hexdigest()


def _add_spots(whole: hashlib._Hash, path: Path, size: int) -> None:
    with path.open("rb") as file:
        for i in range(_SPOTS):
            file.seek(max(0, size - _SPOT_BYTES) * i // (_SPOTS - 1))
            whole.update(file.read(_SPOT_BYTES))


def _kernels(settings: Settings) -> str:
    """The code that computes: another version, instruction set or GPU may round otherwise."""
    if settings.kernels == "reference":
        return f"reference on onnxruntime {ort.__version__}"
    library = describe()
    isa = library["isa"] if settings.isa == "auto" else settings.isa
    place = f"{cuda_runtime().gpu().name} and {isa}" if settings.device == "cuda" else isa
    return f"ferrum {library['version']} for {place} on onnxruntime {ort.__version__}"
