"""A benchmark from its options to its report: what can be measured, and whether it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.bench.cases import Case, cases
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.first_token import FirstToken, first_tokens
from ferrum.runtime.bench.llama import require_llama
from ferrum.runtime.bench.machine import machine
from ferrum.runtime.bench.process import SideProcess
from ferrum.runtime.bench.report import (
    Report,
    Row,
    first_token_ratios,
    ratios,
    rows,
)
from ferrum.runtime.bench.roofline import Limit, Limits, memory_limits, product_limits
from ferrum.runtime.bench.run import QUIET, Runner
from ferrum.runtime.bench.sides import FERRUM, Mode, Side, ferrum_side, other_sides
from ferrum.runtime.bench.streaming import streaming_notice
from ferrum.runtime.bench.work import work_of
from ferrum.runtime.cuda import require_cuda
from ferrum.runtime.free_memory import free_memory
from ferrum.runtime.kv_cache import bytes_per_token
from ferrum.runtime.weight_pages import WeightPages

_BESIDE_A_MODEL = 1 << 30  # caches, buffers and the processes themselves
_OTHER_CACHES = "float16"
_CPU_NOTES = (
    "decode: rate is weights and caches that its steps must read, limit what memory gives just "
    "before and after each repetition",
    "prefill: rate is int8 products, limit what the best instruction set does of them just "
    "before and after each repetition",
)
_GPU_NOTES = (
    "decode: rate is weights and caches that its steps must read",
    "prefill: rate is multiply-adds with quantized weights",
    "memory is the host's: weights and caches in the GPU's are no part of it",
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is asked for, as ferrum-bench's options name it."""

    prefill: Sequence[int]
    decode: Sequence[int]
    contexts: Sequence[int]
    batches: Sequence[int]
    threads: Sequence[int]
    repeat: int
    warm_ups: int
    retries: int
    vs: Path | None
    vs_modes: Sequence[Mode]
    vs_libraries: Sequence[Path]
    profile: bool
    first_token: bool
    device: Literal["cpu", "cuda"] = "cpu"


def measure_machine(threads: Sequence[int], file: Path | None, command: str, say: Say) -> Report:
    """The machine's limits, and those of reading a file where there is one."""
    return Report(machine(), command, {}, tuple(_limits(Limits(), threads, file, say)))


def benchmark(model: Path, options: Options, command: str, say: Say) -> Report:
    """Measure an export as the options ask.

    ArtifactError or BenchError, before anything is measured, where that cannot be.
    """
    artifact = Artifact.open(model)
    wanted = cases(
        prefill=options.prefill, decode=options.decode, contexts=options.contexts,
        batches=options.batches, threads=options.threads,
    )  # fmt: skip
    if not wanted and not options.first_token:
        raise BenchError("[--prefill, --decode] none of both -> one at least, or --first-token")
    _check_lengths(artifact, wanted)
    on_gpu = options.device == "cuda"
    if on_gpu:
        if options.vs is not None:
            raise BenchError("[--vs] llama.cpp is measured on the CPU -> without --device cuda")
        require_cuda()
    sides: list[Side] = [ferrum_side(model, options.device)]
    notes = []
    if options.vs is None and options.vs_libraries:
        raise BenchError("[--vs-library] no file to measure it on -> --vs MODEL.gguf")
    if options.vs is not None:
        notes.append(f"llama-cpp-python {require_llama()}, flash attention on, float16 caches")
        _check_same_weights(artifact, options.vs)
        sides += other_sides(options.vs, options.vs_modes, options.vs_libraries)
    if not on_gpu and (notice := streaming_notice(artifact, WeightPages.of(artifact.weights))):
        say(notice)
        notes.append(notice)
    measuring = None if on_gpu else Limits()
    files = _weight_files(artifact, options.vs)
    read_all = partial(_read_all, files, say)
    read_all()
    limits = _limits(measuring, options.threads, files[0], say) if measuring else []
    runner = Runner(measuring, options.warm_ups, options.retries, say)
    notes += _measure(runner, sides, wanted, files, options, read_all)
    shape, own = artifact.manifest.model, artifact.manifest.graph.kv_dtype
    cache_bytes = {
        side.name: bytes_per_token(shape, own if side.name == FERRUM else _OTHER_CACHES)
        for side in sides
    }
    work = work_of(artifact.path, cache_bytes[FERRUM])
    found = rows(runner.measurements, work, cache_bytes)
    starts: list[FirstToken] = []
    if options.first_token:
        starts = first_tokens(sides, options.threads[0], options.repeat, read_all)
    return Report(
        machine=machine(options.device),
        command=command,
        model={
            "path": str(artifact.path),
            "name": shape.name,
            "layers": shape.layers,
            "bytes": sum(source.bytes for source in artifact.manifest.source.files),
        },
        limits=tuple(limits),
        rows=tuple(found),
        ratios=(*ratios(found), *first_token_ratios(starts, options.threads[0])),
        first_token=tuple(starts),
        notes=(*notes, *_reading_notes(wanted, on_gpu), *_disturbance(found)),
    )


def _limits(measuring: Limits, threads: Sequence[int], file: Path | None, say: Say) -> list[Limit]:
    found = []
    for count in threads:
        say(f"the machine alone, {count} threads")
        found += memory_limits(measuring, count, file) + product_limits(count)
    return found


def _measure(
    runner: Runner,
    sides: Sequence[Side],
    wanted: Sequence[Case],
    files: Sequence[Path],
    options: Options,
    read_all: Callable[[], None],
) -> list[str]:
    """Run all sides; returns what is to be said of how they were run."""
    if not wanted:
        return []
    copying = [side for side in sides if side.copies]
    alone = [] if _copies_fit(files, len(copying)) else copying
    running: list[SideProcess] = []
    try:
        for side in sides:
            if side not in alone:
                running.append(_started(side))
        if alone:
            starts = [partial(_started, side) for side in alone]
            runner.apart(running, starts, wanted, options.repeat, prepare=read_all)
        else:
            runner.together(running, wanted, range(options.repeat))
        if options.profile:
            runner.profile(running[0], wanted)
    finally:
        for process in running:
            process.end()
    return [
        f"{side.name}: its second copy of the weights has no room beside the file, so it was "
        "loaded anew in each round, after the others; its figures are minutes from theirs"
        for side in alone
    ]


def _started(side: Side) -> SideProcess:
    return SideProcess(side.name, side.arguments)


def _weight_files(artifact: Artifact, vs: Path | None) -> list[Path]:
    """The files of weights that are mapped, each once: an export's file may be a link to --vs."""
    found = artifact.weights
    if vs is not None and not any(path.samefile(vs) for path in found):
        found.append(vs)
    return found


def _copies_fit(files: Sequence[Path], copies: int) -> bool:
    """Whether the mapped files and so many copies of the weights fit into memory at once."""
    sizes = [path.stat().st_size for path in files]
    return sum(sizes) + copies * max(sizes) + _BESIDE_A_MODEL <= free_memory()


def _check_lengths(artifact: Artifact, wanted: Sequence[Case]) -> None:
    most = artifact.manifest.model.context_length
    for case in wanted:
        if case.length > most:
            raise BenchError(
                f"[{case.label}] {case.length:,} tokens -> at most {most:,}, the model's context"
            )


def _check_same_weights(artifact: Artifact, gguf: Path) -> None:
    """llama.cpp gets the file that the export was made from, or a copy of it."""
    try:
        size = gguf.stat().st_size
        for source in artifact.manifest.source.files:
            with gguf.open("rb") as file:
                header = file.read(source.header_bytes)
            if size == source.bytes and hashlib.sha256(header).hexdigest() == source.header_sha256:
                return
    except OSError as error:
        raise BenchError(f"[--vs] {gguf} cannot be read: {error.strerror}") from None
    names = ", ".join(source.file for source in artifact.manifest.source.files)
    raise BenchError(f"[--vs] {gguf} -> the GGUF that {artifact.path} was made from ({names})")


def _read_all(files: Sequence[Path], say: Say) -> None:
    """Bring the weights into the page cache, as far as there is memory."""
    buffer = bytearray(8 << 20)
    for path in files:
        say(f"reading {path.name}, {path.stat().st_size / 1e9:.1f} GB")
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _reading_notes(wanted: Sequence[Case], on_gpu: bool) -> list[str]:
    notes = [
        "tokens are random ids, the same on all sides; logits are computed, choosing a token from "
        "them is not timed",
        *(_GPU_NOTES if on_gpu else _CPU_NOTES),
    ]
    if any(case.kind == "decode" and case.batch > 1 for case in wanted):
        notes.append(
            "batches: the bytes of a step count the experts expected to differ, as if all were "
            "equally likely"
        )
    return notes


def _disturbance(found: Sequence[Row]) -> list[str]:
    notes, again = [], sum(row.again for row in found)
    if again:
        notes.append(
            f"{again} repetitions were left out and their rounds run again: other programs took "
            f"{QUIET:.0%} of the CPU time or more"
        )
    if disturbed := sum(row.disturbed for row in found):
        worst = max(share for row in found for share in row.foreign_cpu if row.disturbed)
        notes.append(
            f"{disturbed} of {sum(len(row.seconds) for row in found)} repetitions were disturbed: "
            f"other programs took up to {worst:.0%} of the CPU time -> a quiet machine, for "
            "figures that count"
        )
    return notes
