"""Reference decoders and the functions that travel in a model."""

from __future__ import annotations

import gguf
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ferrum.custom_ops.contract import DOMAIN, IR_VERSION, OPSET, VERSION
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.planes import to_planes
from ferrum.custom_ops.quants import PLANES_ID, QUANTS, Quant
from ferrum.custom_ops.reference import functions_for


def _decoder_model(type_id: int, others: set[int], rows: int, row_bytes: int) -> onnx.ModelProto:
    """QuantMatMul's Dequantize alone, with branches for `others` too."""
    functions = functions_for(["QuantMatMul"], {type_id, *others})
    node = helper.make_node("Dequantize", ["rows"], ["values"], domain=DOMAIN, type=type_id)
    graph = helper.make_graph(
        [node],
        "decode",
        [helper.make_tensor_value_info("rows", onnx.TensorProto.UINT8, [rows, row_bytes])],
        [helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, [rows, "columns"])],
    )
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=functions,
    )


@pytest.mark.parametrize("quant", QUANTS, ids=lambda q: q.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinite scales among random bytes
def test_decodes_random_bytes_to_gguf_pys_very_bits(quant: Quant) -> None:
    rng = np.random.default_rng(quant.id)
    rows = rng.integers(0, 256, (7, 5 * quant.bytes), dtype=np.uint8)
    wanted = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(quant.id)).reshape(7, -1)
    model = _decoder_model(quant.id, {0, 12, 14}, *rows.shape)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"rows": rows})[0]
    # A half or single that is no number decodes to an infinity here; no file holds one.
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[finite], wanted[finite])
    assert not np.isfinite(found[~finite]).any()
    assert finite.any()


@pytest.mark.parametrize("name", ["F32", "BF16", "Q5_0", "Q3_K", "Q6_K", "IQ1_M", "IQ3_XXS"])
def test_onnxs_own_evaluator_decodes_the_same(name: str) -> None:
    quant = QUANTS.by_name(name)
    rows = np.random.default_rng(1).integers(0, 64, (2, 2 * quant.bytes), dtype=np.uint8)
    wanted = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(quant.id)).reshape(2, -1)
    evaluator = ReferenceEvaluator(_decoder_model(quant.id, {8}, *rows.shape))
    np.testing.assert_array_equal(evaluator.run(None, {"rows": rows})[0], wanted)


@pytest.mark.parametrize("planes", QUANTS.planes, ids=lambda q: q.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_matrix_in_planes_decodes_to_the_bits_of_its_blocks(planes: Quant) -> None:
    rows = np.random.default_rng(planes.id).integers(0, 64, (7, 5 * planes.bytes), dtype=np.uint8)
    kind = gguf.GGMLQuantizationType(planes.id - PLANES_ID)
    wanted = gguf.quants.dequantize(rows, kind).reshape(7, -1)
    model = _decoder_model(planes.id, {0, 12, 14}, *rows.shape)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"rows": to_planes(planes, rows)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, feeds)[0], wanted)
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, feeds)[0], wanted)


def test_a_model_holds_only_the_decoders_of_its_types() -> None:
    names = {f.name for f in functions_for(OPS, {12, 0})}
    assert {name for name in names if name.startswith("Decode")} == {"DecodeF32", "DecodeQ4_K"}


def test_callees_stand_before_their_callers_and_once() -> None:
    functions = functions_for(OPS, {quant.id for quant in (*QUANTS, *QUANTS.planes)})
    names = [f.name for f in functions]
    assert len(names) == len(set(names))
    seen: set[str] = set()
    for function in functions:
        called = {n.op_type for n in function.node if n.domain == DOMAIN}
        assert called <= seen, function.name
        seen.add(function.name)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_a_reference_body_has_its_contracts_ports_and_attributes(op) -> None:
    function = op.function()
    assert list(function.input) == [port.name for port in op.inputs]
    assert len(function.output) == len(op.outputs)
    attributes = list(function.attribute) + [a.name for a in function.attribute_proto]
    assert sorted(attributes) == sorted(a.name for a in op.attributes)
    assert {entry.domain: entry.version for entry in function.opset_import} == {"": 18, "ferrum": 1}


def test_an_op_without_a_contract_is_named() -> None:
    with pytest.raises(KeyError, match="QuantConv"):
        functions_for(["QuantConv"], {0})
