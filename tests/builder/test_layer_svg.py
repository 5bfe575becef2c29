"""The picture of a layer: well-formed, everything inside it, every tensor named with its shape."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.layer_svg import layer_svg
from ferrum.builder.survey import survey
from ferrum.custom_ops.ops import OPS

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", [0, 3])
def test_every_op_and_tensor_of_the_layer_is_drawn(
    sample: Path, tmp_path: Path, layer: int, dtype: str
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(dtype=dtype, progress=False))
    found = survey(tmp_path / "m.onnx")
    root = ElementTree.fromstring(layer_svg(found, layer))
    texts = [text.text or "" for text in root.iter(f"{_SVG}text")]
    elsewhere = {"QuantGather", "RMSNorm", "HostQuantMoE"}
    elsewhere |= {"QuantLogits"} if dtype == "float32" else set()
    assert {text for text in texts if text in OPS} == set(OPS) - elsewhere
    for name, tensor in found.tensors.items():
        if name.startswith(f"blk.{layer}.") and "attn_norm" not in name:
            shape = ", ".join(map(str, tensor.shape[::-1]))
            short = name.split(".")[2]
            assert any(text.startswith(f"{short} [{shape}]") for text in texts), name


def test_experts_on_the_cpu_have_their_op_s_name(sample: Path, tmp_path: Path) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(cpu_experts=1, progress=False))
    found = survey(tmp_path / "m.onnx")
    assert [">HostQuantMoE<" in layer_svg(found, layer) for layer in (0, 1)] == [True, False]


def test_nothing_lies_outside_the_picture(sample: Path) -> None:
    root = ElementTree.fromstring(layer_svg(survey(sample), 0))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter(f"{_SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= width
        assert float(box.get("y", 0)) + float(box.get("height", 0)) <= height
        assert float(box.get("x", 0)) >= 0
    for text in root.iter(f"{_SVG}text"):
        letters = len(text.text or "") * 7 / (2 if text.get("text-anchor") == "middle" else 1)
        assert float(text.get("x", 0)) + letters <= width
        assert float(text.get("y", 0)) <= height


def test_names_from_the_file_are_escaped(sample: Path) -> None:
    from dataclasses import replace

    found = survey(sample)
    odd = replace(found, config=replace(found.config, name="<a & b>"))
    assert ElementTree.fromstring(layer_svg(odd, 0))[0].text == "Layer 0 of <a & b>"
