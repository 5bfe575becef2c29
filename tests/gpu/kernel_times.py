"""Where a step's time goes on a GPU, kernel by kernel, as Nsight Compute's counters have it.

    python tests/gpu/kernel_times.py OUT.onnx [--tokens 2048] [--batch 1] [--context 128]

Runs one step of the export under `ncu`, captured by no graph: with --tokens above 1 a prefill of so
many, else a decode of --batch sequences. Each kernel is replayed alone, with clocks left as they
are, so the sum is what the step takes without the gaps between launches.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import io
import subprocess
import sys
from collections import defaultdict

METRICS = (
    "gpu__time_duration.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
)


def step(path: str, tokens: int, batch: int, context: int) -> None:
    """What is measured, in the process that ncu watches."""
    from ferrum.runtime.session import Session
    from ferrum.runtime.settings import Settings

    capacity = max(tokens, (context + 64) * batch) + 4096
    settings = Settings(
        device="cuda", cuda_graphs=False, kv_capacity=capacity, step_tokens=max(tokens, 512),
        max_sequences=max(batch, 16),
    )  # fmt: skip
    session = Session.open(path, settings)
    runtime = ctypes.CDLL("libcudart.so.13")
    if tokens > 1:
        session.prefill("warm", [7 * i % 1000 for i in range(tokens)])
        session.release("warm")
        runtime.cudaProfilerStart()
        session.prefill("a", [5 * i % 1000 for i in range(tokens)])
    else:
        for b in range(batch):
            session.prefill(b, [(b + 3 * i) % 1000 for i in range(context)])
        pairs = [(b, 17 + b) for b in range(batch)]
        session.decode_batch(pairs)
        runtime.cudaProfilerStart()
        session.decode_batch(pairs)
    runtime.cudaProfilerStop()


def main() -> None:
    """Runs ncu on this script and prints its counts by kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx")
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.watched:
        step(a.onnx, a.tokens, a.batch, a.context)
        return
    command = [
        "ncu", "--csv", "--page", "raw", "--profile-from-start", "off", "--clock-control", "none",
        "--metrics", ",".join(METRICS), sys.executable, *sys.argv, "--watched",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode or not lines:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    show(list(csv.DictReader(io.StringIO("\n".join(lines)))))


def show(rows: list[dict[str, str]]) -> None:
    """Kernels by the time they take together."""
    times: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for row in rows[1:]:  # the first holds units
        taken, read = (float(row[name].replace(",", "")) for name in METRICS)
        unit = rows[0]["gpu__time_duration.sum"]
        taken *= {"ns": 1e-3, "us": 1.0, "ms": 1e3, "nsecond": 1e-3, "usecond": 1.0}[unit]
        times[row["Kernel Name"][:48]].append((taken, read, row["Grid Size"]))
    total = sum(taken for found in times.values() for taken, _, _ in found)
    print(f"{total:10.1f} us in {len(rows) - 1} launches")
    for name, found in sorted(times.items(), key=lambda item: -sum(t for t, _, _ in item[1])):
        together = sum(taken for taken, _, _ in found)
        read = sum(taken * share for taken, share, _ in found) / together
        print(
            f"{together:10.1f} us {together / total:6.1%} {len(found):5d} x "
            f"{together / len(found):8.2f} us  {read:5.1f} % of memory  {name}  {found[0][2]}"
        )


if __name__ == "__main__":
    main()
