"""Where ONNX Runtime put every node: the session's own record."""

from __future__ import annotations

from collections import Counter

import onnxruntime as ort

from ferrum.builder.check.export import Export
from ferrum.builder.check.finding import Finding, first_line, judged, skipped
from ferrum.custom_ops.library import Arithmetic, describe, register

CPU = "CPUExecutionProvider"


class LibraryError(ValueError):
    """FERRUM_LIBRARY or FERRUM_ISA names what cannot be loaded or run here; one line."""


def check_library() -> None:
    """Raise LibraryError where no session could have ferrum's kernels: no fault of an export."""
    try:
        describe()
        register(ort.SessionOptions())
    except Exception as error:  # ONNX Runtime's, ctypes' and our own have nothing else in common
        raise LibraryError(f"[library] {first_line(error)}") from error


def session(export: Export, arithmetic: Arithmetic = "fast") -> ort.InferenceSession:
    """The export on ferrum's kernels, on the CPU, with its assignments recorded."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised too
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    register(options, arithmetic=arithmetic)
    return ort.InferenceSession(str(export.path), options, providers=[CPU])


def placement(export: Export) -> Finding:
    """Every node has a provider, and it is the CPU's; every custom node runs as one kernel."""
    loaded = session(export)
    if not hasattr(loaded, "get_provider_graph_assignment_info"):
        return skipped(
            f"onnxruntime {ort.__version__} loads it, but keeps no record of assignments"
        )
    placed = [
        (node.name, node.op_type, group.ep_name)
        for group in loaded.get_provider_graph_assignment_info()
        for node in group.get_nodes()
    ]
    problems = [f"{name} ({op}) on {where} -> {CPU}" for name, op, where in placed if where != CPU]
    recorded = {(name, op) for name, op, _ in placed}
    problems += [
        f"{node.name} ({node.op_type}) on no provider"
        for node in export.nodes
        if (node.name, node.op_type) not in recorded
    ]
    counts = ", ".join(f"{n} on {p}" for p, n in Counter(p for *_, p in placed).items())
    return judged(problems, f"onnxruntime {ort.__version__}: {counts}, none elsewhere")
