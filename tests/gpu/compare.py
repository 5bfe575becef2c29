"""The speeds of several builds of ferrum on one GPU, in turn, in one run.

    python tests/gpu/compare.py OUT.onnx BUILD BUILD... [--rounds 3] [--bench "--decode 64 ..."]

A BUILD is a wheel of ferrum, or a folder that one was installed to (pip install --target). Every
round runs ferrum-bench once with each, in a process of its own, and another one is first each time.
The environment (PYTHONPATH with onnxruntime-gpu, LD_LIBRARY_PATH) is that of tests/gpu/run.sh, and
OUT.onnx must be one that all of them take. Prints each case's speed with each build, the median of
the rounds and their spread, and its ratio to the first build's; --json keeps every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

BENCH = "--prefill '' --decode 64 --batch 1,16,64"
Speeds = dict[str, dict[str, list[float]]]  # by case and build


def site_of(build: Path, folder: Path) -> Path:
    """The folder to import a build from; a wheel is installed into `folder`."""
    if build.is_dir():
        return build.absolute()
    site = folder / build.stem
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", str(site), str(build)], check=True)
    return site


def measure(site: Path, model: str, bench: list[str], report: Path) -> dict[str, float]:
    """Tokens per second of each case, by one run of ferrum-bench."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "ferrum.runtime.bench_cli", model, "--device", "cuda",
               "--repeat", "1", *bench, "--json", str(report)]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"compare: {site.name}: {shlex.join(command)}\n{done.stdout}{done.stderr}")
    return {label(row["case"]): row["tokens_per_second"]["median"]
            for row in json.loads(report.read_text())["rows"]}  # fmt: skip


def label(case: dict[str, int | str]) -> str:
    """A case in the words of a table."""
    return "{kind} {tokens}, batch {batch}, context {context}".format(**case)


def compare(sites: list[Path], model: str, bench: list[str], rounds: int, folder: Path) -> Speeds:
    """Every round's speeds."""
    speeds: Speeds = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        first = number % len(sites)
        for site in (*sites[first:], *sites[:first]):
            report = folder / "report.json"
            for case, speed in measure(site, model, bench, report).items():
                speeds[case][site.name].append(speed)
    return speeds


def show(speeds: Speeds, names: list[str]) -> None:
    """A table, a line for each case and build."""
    width = max(map(len, names))
    for case, of_build in speeds.items():
        print(case)
        base = median(of_build[names[0]])
        for name in names:
            found = of_build[name]
            print(f"  {name:<{width}} {median(found):>10,.0f}  ({min(found):,.0f} to "
                  f"{max(found):,.0f})  {median(found) / base:.3f}")  # fmt: skip


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx")
    parser.add_argument("builds", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bench", default=BENCH, help=f"of ferrum-bench (default: {BENCH})")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if missing := [str(build) for build in a.builds if not build.exists()]:
        parser.error(f"no {missing[0]} -> a wheel of ferrum, or a folder it was installed to")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = [site_of(build, folder) for build in a.builds]
        if len({site.name for site in sites}) < len(sites):
            parser.error("two builds have the same name -> other names")
        speeds = compare(sites, a.onnx, shlex.split(a.bench), a.rounds, folder)
    show(speeds, [site.name for site in sites])
    if a.json:
        a.json.write_text(json.dumps(speeds, indent=1) + "\n")


if __name__ == "__main__":
    main()
