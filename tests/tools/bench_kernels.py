"""Rates of the weight products: GB/s of weights for one column, GMAC/s for several.

    python tests/tools/bench_kernels.py [--types Q4_K,Q6_K] [--isas avx512] [--columns 1,8,64]

Weights are random blocks in matrices of [rows, k], together larger than the caches unless
`--hot` keeps them to one matrix per thread. The first line is what the memory gives: the rate at
which the same threads sum up a large array. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from native_products import PRODUCTS

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.quants import QUANTS, Quant


def load_library() -> ctypes.CDLL:
    path = os.environ.get("FERRUM_LIBRARY")
    if path is None:
        from ferrum.custom_ops.library import library_path

        path = str(library_path())
    return ctypes.CDLL(path)


def load_generator() -> Any:
    path = Path(__file__).with_name("random_blocks.py")
    spec = importlib.util.spec_from_file_location("random_blocks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.random_blocks


def read_rate(threads: int) -> float:
    """GB/s at which `threads` threads read memory."""
    arrays = [np.ones(2**25, np.float64) for _ in range(threads)]
    best = 0.0
    for _ in range(3):
        workers = [threading.Thread(target=array.sum) for array in arrays]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, sum(a.nbytes for a in arrays) / (time.perf_counter() - start) / 1e9)
    return best


class Bench:
    """One matrix shape, measured over types, ISAs and column counts."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.library, self.blocks, self.args = load_library(), load_generator(), args
        quants = describe()["quants"]
        self.fast = {quant["id"]: quant["int8"] + quant["bfloat16"] for quant in quants}

    def weights(self, quant: Quant) -> tuple[np.ndarray[Any, Any], int]:
        """All matrices one after the other, and how many they are."""
        a = self.args
        one = self.blocks(quant.name, a.rows * a.k // quant.block, 0.05, 0).ravel()
        count = a.threads if a.hot else max(a.threads, a.megabytes * 2**20 // one.size)
        return np.tile(one, count), count

    def seconds(self, isa: str, quant: Quant, weights: Any, matrices: int, columns: int) -> float:
        """Best of many short runs, which a busy machine disturbs least; NaN where it cannot run."""
        a, taken = self.args, ctypes.c_double()
        x = np.random.default_rng(1).standard_normal((columns, a.k)).astype(np.float32)
        floats = a.exact or isa not in self.fast[quant.id]
        product = PRODUCTS["exact" if floats else "even" if a.even else "fine"]

        def run(repeats: int) -> float:
            status = self.library.ferrum_bench_matmul(
                isa.encode(), ctypes.c_int(quant.id), product,
                ctypes.c_void_p(weights.ctypes.data), ctypes.c_int64(matrices),
                ctypes.c_int64(a.rows), ctypes.c_int64(a.k), ctypes.c_void_p(x.ctypes.data),
                ctypes.c_int64(columns), ctypes.c_int(a.threads), ctypes.c_int(repeats),
                ctypes.byref(taken),
            )  # fmt: skip
            return taken.value if status == 0 else float("nan")

        repeats = max(1, int(0.003 / max(run(1), 1e-6)))
        return min(run(repeats) / repeats for _ in range(a.runs))

    def line(self, isa: str, quant: Quant) -> str:
        a = self.args
        weights, matrices = self.weights(quant)
        cells = []
        for columns in a.columns:
            seconds = self.seconds(isa, quant, weights, matrices, columns)
            macs = matrices * a.rows * a.k * columns / seconds / 1e9
            rate = f"{weights.size / seconds / 1e9:6.1f} GB/s " if columns <= 4 else ""
            cells.append(f"{columns}: {rate}{macs:6.1f} GMAC/s")
        return f"{quant.name:8}{isa:8} " + "   ".join(cells)


def main() -> None:
    """Prints one line per type and ISA."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--types", type=names, default=[q.name for q in QUANTS])
    parser.add_argument("--isas", type=names, default=["avx512", "avx2", "generic"])
    parser.add_argument(
        "--columns", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8, 64]
    )
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--k", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--hot", action="store_true", help="one matrix per thread, in the cache")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--exact", action="store_true", help="the float32 products")
    kind.add_argument("--even", action="store_true", help="the products of normed activations")
    args = parser.parse_args()
    bench = Bench(args)
    memory = read_rate(args.threads)
    print(f"[{args.rows}, {args.k}], {args.threads} threads, memory {memory:.1f} GB/s")
    for name in args.types:
        for isa in args.isas:
            if bench.library.ferrum_test_isa(isa.encode()) == 0:
                print(bench.line(isa, QUANTS.by_name(name)), flush=True)


if __name__ == "__main__":
    main()
