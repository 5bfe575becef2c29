"""ONNX Runtime infers and checks the types of the library's ops by itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx
import onnxruntime as ort
import pytest
from activation_cases import CASES, case
from onnx import TensorProto, helper

from ferrum.custom_ops import register
from ferrum.custom_ops.contract import CACHE, DOMAIN, IR_VERSION, OPSET, VERSION, F, Op
from ferrum.custom_ops.library import library_path
from ferrum.custom_ops.ops import OPS

FLOATS = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16,
          "bfloat16": TensorProto.BFLOAT16}  # fmt: skip
OTHERS = {"float32": 1, "int32": 6, "int64": 7, "uint8 blocks": 2}
EXAMPLES = {name.split()[0].rstrip(","): name for name in CASES}


# From here on ONNX Runtime tells kernels a session's config entries.
TOLD = tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 24)


def load(
    op: Op,
    types: list[int],
    attributes: dict[str, object],
    prepare: Callable[[ort.SessionOptions], None] = register,
) -> ort.InferenceSession:
    """The node alone, over inputs of these types; the outputs' are for ONNX Runtime to find."""
    node = helper.make_node(
        op.name, [p.name for p in op.inputs], [p.name for p in op.outputs], domain=DOMAIN,
        **attributes,
    )  # fmt: skip
    inputs = [
        helper.make_tensor_value_info(port.name, kind, None)
        for port, kind in zip(op.inputs, types, strict=True)
    ]
    outputs = [onnx.ValueInfoProto(name=port.name) for port in op.outputs]
    model = helper.make_model(
        helper.make_graph([node], "typed", inputs, outputs),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    prepare(options)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def input_types(op: Op, activation: int, cache: int) -> list[int]:
    own = {F: activation, CACHE: cache}
    return [own.get(port.dtype) or OTHERS[port.dtype] for port in op.inputs]


@pytest.mark.parametrize("cache", FLOATS)
@pytest.mark.parametrize("activation", FLOATS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_outputs_have_the_types_of_the_contract(name: str, activation: str, cache: str) -> None:
    op, attributes = OPS[name], case(EXAMPLES[name], 1, "float16")[2]
    found = load(op, input_types(op, FLOATS[activation], FLOATS[cache]), attributes)
    wanted = {F: activation, CACHE: cache, "float32": "float"}
    assert [value.type for value in found.get_outputs()] == [
        f"tensor({wanted[port.dtype]})" for port in op.outputs
    ]


@pytest.mark.parametrize("name", ["AddRMSNorm", "PagedAttention"])
def test_activations_of_two_types_are_refused(name: str) -> None:
    op, attributes = OPS[name], case(EXAMPLES[name], 1, "float16")[2]
    types = input_types(op, TensorProto.FLOAT16, TensorProto.FLOAT)
    types[1] = TensorProto.FLOAT
    with pytest.raises(Exception, match=name):
        load(op, types, attributes)


def load_with(before: dict[str, str], after: dict[str, str]) -> None:
    """A node whose session has entries from before the library is registered, and from after it."""

    def prepare(options: ort.SessionOptions) -> None:
        for key, value in before.items():
            options.add_session_config_entry(key, value)
        options.register_custom_ops_library(str(library_path()))
        for key, value in after.items():
            options.add_session_config_entry(key, value)

    op, attributes = OPS["RMSNorm"], case(EXAMPLES["RMSNorm"], 1, "float16")[2]
    load(op, input_types(op, TensorProto.FLOAT, TensorProto.FLOAT), attributes, prepare)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"ferrum.arithmetics": "exact"}, {}, "got ferrum.arithmetics, expected one of: ferrum.i"),
        ({}, {"ferrum.moe_patch": "few"}, "got ferrum.moe_patch, expected one of: ferrum.isa, "),
        ({}, {"ferrum.isa": "generic"}, "after the library was registered, expected all of them b"),
        ({"ferrum.route": "host"}, {"ferrum.route": "graph"}, "after the library was registered"),
        ({}, {"ferrum.profile": "yes"}, 'ferrum.profile, got "yes", expected one of: 0, 1'),
    ],
)  # fmt: skip
def test_an_entry_that_would_do_nothing_is_refused(
    before: dict[str, str], after: dict[str, str], told: str
) -> None:
    if TOLD:
        with pytest.raises(Exception, match=re.escape(told)):
            load_with(before, after)
    else:
        load_with(before, after)


def test_entries_of_others_and_those_that_change_nothing_are_passed_over() -> None:
    load_with({"ferrum.moe_path": "few", "application.mode": "fast"}, {"ferrum.moe_path": "few"})
