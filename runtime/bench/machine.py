"""The machine that is measured, in the words of a record: processor, cores, memory, software."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import onnxruntime

from ferrum.custom_ops.library import describe
from ferrum.runtime.cudart import cuda_runtime

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Machine:
    """Where and with what figures were taken."""

    date: str
    cpu: str
    cores: int
    logical_cpus: int
    memory_bytes: int
    isa: str | None
    kernel: str
    python: str
    onnxruntime: str
    ferrum: str
    commit: str | None
    gpu: str | None  # where a model ran on one


def machine(device: str = "cpu") -> Machine:
    """This machine, now; its GPU too where that is the device."""
    return Machine(
        date=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        cpu=_cpu_name(),
        cores=physical_cores(),
        logical_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory_info()["MemTotal"],
        isa=describe()["isa"],
        kernel=platform.release(),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        ferrum=version("ferrum"),
        commit=_commit(),
        gpu=_gpu_name() if device == "cuda" else None,
    )


def physical_cores() -> int:
    """Cores that this process may use, hardware threads of one core counted once."""
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return len(cores)


def memory_info() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)
    }


def last_level_cache() -> int:
    """Bytes of the largest cache of each group of CPUs, added up; 0 where the system tells none."""
    caches: dict[str, int] = {}
    for cpu in os.sched_getaffinity(0):
        for index in (_CPUS / f"cpu{cpu}" / "cache").glob("index*"):
            if not (index / "size").exists():  # some ARM machines know of a cache, not its size
                continue
            size, shared = (index / "size").read_text(), (index / "shared_cpu_list").read_text()
            kilobytes = int(size.strip().removesuffix("K"))
            caches[shared.strip()] = max(caches.get(shared.strip(), 0), kilobytes * 1024)
    return sum(caches.values())


def _siblings(cpu: int) -> str:
    path = _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    return path.read_text().strip() if path.exists() else str(cpu)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _gpu_name() -> str:
    gpu = cuda_runtime().gpu()
    return (
        f"{gpu.name}, {gpu.multiprocessors} multiprocessors of compute capability "
        f"{gpu.capability}, {gpu.memory_bytes / 2**30:.0f} GiB"
    )


def _commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
    except OSError:  # no git here
        return None
    return found.stdout.strip() or None
