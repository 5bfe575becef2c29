"""The file as ONNX sees it: onnx's own checker, shape inference, versions."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import onnx

from ferrum.builder.check.export import Export
from ferrum.builder.check.finding import Finding, first_line, judged, passed
from ferrum.custom_ops.contract import DOMAIN, VERSION

# The oldest ONNX Runtime that the package claims to support, and what it accepts.
OLDEST_RUNTIME = "1.21"
_MAX_IR, _MAX_OPSET = 10, 22


def onnx_checker(export: Export) -> Finding:
    """onnx's checker over the file by its path, so that external data are looked at too."""
    try:
        onnx.checker.check_model(str(export.path))
        return passed(f"onnx {onnx.__version__}, by path")
    except onnx.checker.ValidationError as error:
        if "multiple hard links" not in str(error):
            return judged([first_line(error)], "")
    # onnx refuses any external file with a second hard link, which --weights link makes. It never
    # reads their bytes (other checks here do), so the same .onnx, byte for byte, is checked beside
    # empty files of the same names and sizes.
    with tempfile.TemporaryDirectory(prefix="ferrum-check-") as folder:
        try:
            onnx.checker.check_model(str(_beside_stand_ins(export, Path(folder))))
        except onnx.checker.ValidationError as error:
            return judged([first_line(error)], "")
    return passed(
        f"onnx {onnx.__version__}, the .onnx as it is; weights hard-linked, which onnx refuses, so "
        "sparse stand-ins of their sizes lay beside it"
    )


def _beside_stand_ins(export: Export, folder: Path) -> Path:
    """A copy of the .onnx in `folder`, with a hole for every external file that exists."""
    copy = folder / export.path.name
    shutil.copyfile(export.path, copy)
    for location in {reference.location for reference in export.references.values()}:
        real = export.folder / location
        stand_in = folder / location
        if Path(location).name == location and real.is_file() and not stand_in.exists():
            with stand_in.open("wb") as file:
                file.truncate(real.stat().st_size)
    return copy


def shape_inference(export: Export) -> Finding:
    """Strict shape and type inference, through the reference bodies."""
    try:
        model = onnx.shape_inference.infer_shapes(export.model, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return judged([first_line(error)], "")
    return passed(f"strict; {len(model.graph.value_info)} values have types")


def versions(export: Export) -> Finding:
    """IR version, opsets and domains, in the model and in its functions."""
    model, problems = export.model, []
    if not 3 <= model.ir_version <= _MAX_IR:
        problems.append(f"IR version {model.ir_version} -> at most {_MAX_IR}")
    places = [("model", model.opset_import)]
    places += [(f"function {f.name}", f.opset_import) for f in model.functions]
    for place, imports in places:
        for entry in imports:
            if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= _MAX_OPSET:
                problems.append(f"{place}: opset {entry.version} -> at most {_MAX_OPSET}")
            elif entry.domain == DOMAIN and entry.version != VERSION:
                problems.append(f"{place}: {DOMAIN} {entry.version} -> {VERSION}")
            elif entry.domain not in ("", "ai.onnx", DOMAIN):
                problems.append(f"{place}: domain {entry.domain!r} -> the standard's or {DOMAIN}")
    opsets = ", ".join(f"{e.domain or 'opset'} {e.version}" for e in model.opset_import)
    return judged(
        problems, f"IR {model.ir_version}, {opsets}: ONNX Runtime {OLDEST_RUNTIME} takes them"
    )
