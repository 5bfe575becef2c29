"""The accuracy table of docs/bench/accuracy.md: every shared quantization against the truth.

python tests/tools/accuracy.py [FOLDER OF THE REFERENCE DATA]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from exports import TYPES, Exports, Model, divergence

_HEAD = (
    "file", "arithmetic", "mean KL to truth", "llama.cpp's", "top-1", "llama.cpp's",
    "KL added by arithmetic", "llama.cpp's",
)  # fmt: skip


def rows(exports: Exports) -> list[tuple[str, ...]]:
    """One row per file and arithmetic."""
    truth = exports.truth["logits"]
    found = []
    for name in TYPES:
        theirs = exports.reference["llama"][name]
        for arithmetic, kv_dtype in (("fast", "float16"), ("exact", "float32")):
            model = Model(exports.path(name, kv_dtype), arithmetic=arithmetic)
            logits = np.stack([model.all_logits(tokens) for tokens in exports.truth["tokens"]])
            added = divergence(exports.dequantized[name], logits[0, -16:]).mean()
            agreement = (logits.argmax(-1) == truth.argmax(-1)).mean()
            found.append((
                name, arithmetic,
                f"{divergence(truth, logits).mean():.3e}", f"{theirs['mean_kl']:.3e}",
                f"{agreement:.4f}", f"{theirs['top1']:.4f}",
                f"{added:.1e}", f"{theirs['arithmetic_kl']:.1e}",
            ))  # fmt: skip
    return found


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "shared" / "data"
    with tempfile.TemporaryDirectory() as folder:
        for cells in (_HEAD, ("---",) * len(_HEAD), *rows(Exports(shared, Path(folder)))):
            print("| " + " | ".join(cells) + " |")
