"""The library is found, says what it is, and gives a session what was asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest
from native_node import session
from oracle import quantized

from ferrum.custom_ops import library_path, register
from ferrum.custom_ops.library import (
    Arithmetic,
    BlockSize,
    GateUp,
    Isa,
    MoePath,
    PageIn,
    Route,
    dequantize,
    describe,
    read_profile,
)
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.quants import QUANTS

Q8_0, Q4_K = 8, 12


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_library_is_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FERRUM_LIBRARY", raising=False)
    monkeypatch.chdir(tmp_path)
    path = library_path()
    assert path.is_absolute()
    assert path.name == "libferrum_ops.so"
    assert path.is_file()


def test_ferrum_library_names_another_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "another.so"
    other.write_bytes(library_path().read_bytes())
    monkeypatch.setenv("FERRUM_LIBRARY", str(other))
    assert library_path() == other
    assert describe()["ops"]


def test_ferrum_library_that_is_not_there_is_an_error_and_no_fallback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FERRUM_LIBRARY", str(tmp_path / "missing.so"))
    with pytest.raises(FileNotFoundError, match=r"FERRUM_LIBRARY, got .*missing.so"):
        library_path()


def test_the_library_s_ops_are_the_contracts() -> None:
    reported = {op["name"]: op for op in describe()["ops"]}
    assert set(reported) == set(OPS)
    types = {"f": "activation", "uint8 blocks": "uint8"}
    for name, op in OPS.items():
        for side, ports in (("inputs", op.inputs), ("outputs", op.outputs)):
            wanted = [(port.name, types.get(port.dtype, port.dtype)) for port in ports]
            found = [(port["name"], port["type"]) for port in reported[name][side]]
            assert found == wanted, (name, side)
        assert reported[name]["attributes"] == [attr.name for attr in op.attributes]
        assert reported[name]["host"] == op.host


def test_the_library_s_quants_are_the_table_s() -> None:
    keys = ("id", "name", "block", "bytes", "fields")
    reported = [tuple(quant[key] for key in keys) for quant in describe()["quants"]]
    assert sorted(reported) == sorted(
        [(q.id, q.name, q.block, q.bytes, []) for q in QUANTS]
        + [(q.id, q.name, q.block, q.bytes, list(q.fields)) for q in QUANTS.planes]
    )


def test_a_layout_in_planes_takes_activations_as_its_blocks_do() -> None:
    reported = {quant["id"]: quant for quant in describe()["quants"]}
    for planes in QUANTS.planes:
        assert planes.blocks is not None
        for key in ("int8", "bfloat16"):
            assert reported[planes.id][key] == reported[planes.blocks.id][key]


def test_the_description_names_version_and_instruction_sets() -> None:
    said = describe()
    assert said["version"]
    assert said["isas"][-1] == "generic"
    assert set(said["isas"]) < set(get_args(Isa))
    wanted = os.environ.get("FERRUM_ISA") or said["isas"][0]
    assert said["isa"] == wanted


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_dequantize_equals_the_gguf_package(quant: object) -> None:
    blocks, values = quantized(quant.id, (3, 2, 512))  # type: ignore[attr-defined]
    found = dequantize(quant.id, blocks)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, values, rtol=2.0**-22)


def test_dequantize_takes_strided_and_empty_arrays() -> None:
    blocks, _ = quantized(Q4_K, (6, 256))
    np.testing.assert_array_equal(dequantize(Q4_K, blocks[::2]), dequantize(Q4_K, blocks)[::2])
    assert dequantize(Q4_K, blocks[:0]).shape == (0, 256)


@pytest.mark.parametrize(
    ("type_id", "array", "message"),
    [
        (Q4_K, np.zeros((2, 145), np.uint8), "rows of 145 bytes -> a multiple of Q4_K's 144"),
        (999, np.zeros((2, 144), np.uint8), "ggml type 999 -> one of"),
        (1014, np.zeros((8, 210), np.uint8), "ggml type 1014 -> one of"),
        (Q4_K, np.zeros((2, 144), np.int8), "got int8 of rank 2 -> uint8"),
        (Q4_K, np.uint8(0), "got uint8 of rank 0 -> uint8 of rank 1 or more"),
    ],
)
def test_dequantize_refuses_what_is_no_blocks(
    type_id: int, array: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dequantize(type_id, array)


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("arithmetic", "int4", "fast, exact"),
        ("isa", "sse2", "generic"),
        ("isa", "", "generic"),
        ("moe_path", "Few", "auto, one, few, grouped"),
        ("moe_block_size", "24", "auto, 8, 16, 32, 48, 64"),
        ("moe_gate_up", "", "fused, unfused"),
        ("route", "gpu", "graph, host"),
        ("page_in", "ahead", "faults, experts"),
        ("moe_few_max", -1, "a count from 0 to 999999999"),
        ("moe_few_max", "1e3", "a count"),
        ("moe_few_max", 10**12, "a count"),
    ],
)
def test_values_that_are_not_allowed_are_refused_with_those_that_are(
    setting: str, value: object, allowed: str
) -> None:
    with pytest.raises(
        Exception, match=rf"ferrum\.{setting}, got \"{value}\".*expected.*{allowed}"
    ):
        register(ort.SessionOptions(), **{setting: value})  # type: ignore[arg-type]


def test_it_stays_in_the_process_once_it_is_loaded() -> None:
    """What it keeps for sessions would be lost, and taken anew, each time it goes and comes."""
    done = subprocess.run(["readelf", "-dW", library_path()], capture_output=True, text=True)
    assert re.search(r"FLAGS_1.* NODELETE", done.stdout)


def test_the_readme_has_every_entry_of_a_session_and_its_values() -> None:
    source = Path(__file__).parents[2] / "custom_ops/native/settings.cc"
    entries = set(re.findall(r'"(ferrum\.\w+)"', source.read_text()))
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(ferrum\.\w+)` \| (.*?) \|", readme, re.MULTILINE))
    assert set(rows) == entries
    choices = {"ferrum.isa": Isa, "ferrum.arithmetic": Arithmetic, "ferrum.moe_path": MoePath,
               "ferrum.moe_block_size": BlockSize, "ferrum.moe_gate_up": GateUp,
               "ferrum.route": Route, "ferrum.page_in": PageIn}  # fmt: skip
    for entry, allowed in choices.items():
        assert rows[entry] == ", ".join(f"`{value}`" for value in get_args(allowed)), entry


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="arithmetics"):
        register(ort.SessionOptions(), arithmetics="fast")  # type: ignore[call-arg]


def test_sessions_with_different_settings_run_side_by_side() -> None:
    blocks, _ = quantized(Q4_K, (40, 512))
    x = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    feeds = {"x": x, "weight": blocks}
    wanted = [{"arithmetic": a, "isa": i} for a in ("fast", "exact") for i in describe()["isas"]]
    together = [session("QuantMatMul", {"type": Q4_K}, **each) for each in wanted]
    interleaved = [[node.run(None, feeds)[0] for node in together] for _ in range(2)][1]
    for each, found in zip(wanted, interleaved, strict=True):
        alone = session("QuantMatMul", {"type": Q4_K}, **each).run(None, feeds)[0]
        np.testing.assert_array_equal(found, alone)
    fast, exact = interleaved[0], interleaved[-1]
    assert not np.array_equal(fast, exact)


def test_route_on_the_host_leaves_the_op_to_its_body() -> None:
    attributes = {"k": 2, "normalize": 1, "scale": 1.0}
    logits = {"logits": np.array([[1, 3, 2]], np.float32)}
    assert session("RouteTopK", attributes).run(None, logits)[1].tolist() == [[1, 2]]
    # This model carries no body, so a library that does not offer the op leaves none at all.
    with pytest.raises(Exception, match="RouteTopK"):
        session("RouteTopK", attributes, route="host")


@pytest.mark.parametrize("isa", describe()["isas"])
def test_ferrum_isa_forces_an_instruction_set_that_truly_runs(isa: str) -> None:
    code = (
        "import numpy as np, sys; sys.path.insert(0, 'tests/tools');"
        "from native_node import run; from oracle import quantized;"
        "from ferrum.custom_ops.library import describe;"
        "x = np.random.default_rng(0).standard_normal((3, 300)).astype(np.float32);"
        "feeds = {'x': x, 'weight': quantized(0, (40, 300))[0]};"
        "asked = run('QuantMatMul', feeds, {'type': 0})[0];"
        f"forced = run('QuantMatMul', feeds, {{'type': 0}}, isa='{isa}')[0];"
        "print(describe()['isa'], np.array_equal(asked, forced))"
    )
    done = in_a_process(code, FERRUM_ISA=isa)
    assert done.stdout.split() == [isa, "True"], done.stderr


def test_an_unknown_ferrum_isa_is_an_error_and_no_fallback() -> None:
    code = "import onnxruntime as o; from ferrum.custom_ops import register as r;"
    done = in_a_process(code + "r(o.SessionOptions())", FERRUM_ISA="avx9000")
    assert done.returncode != 0
    assert 'environment variable FERRUM_ISA, got "avx9000": expected auto' in done.stderr
    assert "generic" in done.stderr
    assert in_a_process(code + "r(o.SessionOptions(), isa='generic')", FERRUM_ISA="avx9000"
                        ).returncode == 0  # fmt: skip


def test_a_profile_counts_calls_by_the_stage_in_the_node_s_name() -> None:
    blocks, _ = quantized(Q8_0, (64, 64))
    feeds = {"x": np.ones((2, 64), np.float32), "weight": blocks}
    read_profile(reset=True)
    for name, calls in (("blk.0.o", 3), ("blk.11.router", 2), ("lm_head", 1), ("mine", 1)):
        node = session("QuantMatMul", {"type": Q8_0}, name=name, profile=True)
        for _ in range(calls):
            node.run(None, feeds)
    session("QuantMatMul", {"type": Q8_0}, name="blk.0.o").run(None, feeds)  # asks for none
    totals = read_profile(reset=True)
    counted = {stage: total["calls"] for stage, total in totals.items() if total["calls"]}
    assert counted == {"o": 3, "router": 2, "lm_head": 1, "other": 1}
    assert all(total["seconds"] > 0 for total in totals.values() if total["calls"])
    assert list(totals) == describe()["stages"]
    assert not any(total["calls"] for total in read_profile().values())


@pytest.mark.parametrize("gate_up", ["fused", "unfused"])
@pytest.mark.parametrize("path", ["one", "few", "grouped"])
def test_a_profile_divides_an_expert_layer_into_its_stages(path: str, gate_up: str) -> None:
    matrix, _ = quantized(Q8_0, (4, 64, 64))
    feeds = {
        "x": np.ones((1, 64), np.float32),
        "weights": np.ones((1, 2), np.float32),
        "experts": np.array([[0, 3]], np.int32),
        "gate": matrix,
        "up": matrix,
        "down": matrix,
    }
    types = dict.fromkeys(("gate_type", "up_type", "down_type"), Q8_0)
    node = session("QuantMoE", types, profile=True, moe_path=path, moe_gate_up=gate_up)
    read_profile(reset=True)
    node.run(None, feeds)
    totals = read_profile(reset=True)
    counted = {stage: total["calls"] for stage, total in totals.items() if total["calls"]}
    assert counted == {"gate_up": 1, "silu": 1, "down": 1, "combine": 1}
