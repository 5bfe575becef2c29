"""The table of checks, and what runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ferrum.builder.check import (
    companions,
    contracts,
    dataflow,
    identity,
    kernels,
    logits,
    placement,
    references,
    structure,
)
from ferrum.builder.check.export import Export, NotChecked
from ferrum.builder.check.finding import Finding, first_line, skipped
from ferrum.custom_ops.ops import OPS

# Ops that a graph has for experts on the CPU, or for activations that are not float32.
_NOT_IN_ALL = ("HostQuantMoE", "QuantLogits")


@dataclass(frozen=True)
class CheckOptions:
    """How thorough the checks are; the command line has the same names."""

    seed: int = 0
    samples: int = 4
    quick: bool = False
    progress: bool = True
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A named question to an export; one that not every graph raises may be `optional`."""

    name: str
    run: Callable[[Export], Finding]
    optional: bool = False


@dataclass(frozen=True)
class Outcome:
    """A check's finding and the seconds it took."""

    name: str
    finding: Finding
    seconds: float


def checks(options: CheckOptions) -> list[Check]:
    """The checks in order: what is cheap and explains later failures comes first.

    ValueError where `only` names one that there is not.
    """
    rows = _all(options)
    names = [check.name for check in rows]
    for name in options.only:
        if name not in names:
            raise ValueError(f"[--only] {name!r} -> one of {', '.join(names)}")
    return [check for check in rows if not options.only or check.name in options.only]


def _all(options: CheckOptions) -> list[Check]:
    hashed = partial(identity.weight_bytes, quick=options.quick, progress=options.progress)
    sampled = partial(kernels.kernel, seed=options.seed, samples=options.samples)
    return [
        Check("onnx checker", structure.onnx_checker),
        Check("shape inference", structure.shape_inference),
        Check("versions", structure.versions),
        Check("external references", references.external_references),
        Check("source files", references.source_files),
        Check("manifest", companions.manifest_file),
        Check("companion files", companions.companion_files),
        Check("tensor table", references.tensor_table),
        Check("config", references.config),
        Check("weight bytes", hashed),
        Check("node counts", dataflow.node_counts),
        Check("wiring", dataflow.wiring),
        Check("constants", dataflow.constants),
        Check("contracts", contracts.contracts),
        Check("reference bodies", contracts.bodies),
        Check("weight types", contracts.weights),
        Check("placement", placement.placement),
        *(
            Check(f"kernel {name}", partial(sampled, op_name=name), optional=name in _NOT_IN_ALL)
            for name in OPS
        ),
        Check("logits", partial(logits.logits, seed=options.seed)),
    ]


def run_checks(export: Export, options: CheckOptions) -> Iterator[Outcome]:
    """Each check's outcome as it comes. What a check could not survive is a failure of it.

    An optional one that finds nothing to look at, and was not asked for, is left out.
    """
    for check in checks(options):
        started = time.perf_counter()
        try:
            finding = check.run(export)
        except NotChecked as reason:
            finding = skipped(str(reason))
        except Exception as error:  # whatever is wrong with the export, the table goes on
            text = f"{type(error).__name__}: {first_line(error)}"
            finding = Finding("fail", text, (text,))
        if check.optional and finding.status == "skip" and check.name not in options.only:
            continue
        yield Outcome(check.name, finding, time.perf_counter() - started)
