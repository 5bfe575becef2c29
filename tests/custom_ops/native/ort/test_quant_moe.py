"""QuantMoE on the library: one sum, whichever of its ways computes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe_problem import MoeProblem, empty_experts, relative_error, skewed
from native_node import run, session

from ferrum.custom_ops.library import describe

F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, MXFP4 = 0, 1, 30, 2, 8, 12, 13, 14, 39
ISAS = describe()["isas"]
WAYS: list[dict[str, Any]] = [
    {"moe_path": path, "moe_gate_up": gate_up}
    for path in ("one", "few", "grouped")
    for gate_up in ("fused", "unfused")
]


class Problem(MoeProblem):
    """One that the library runs."""

    def __init__(
        self,
        tokens: int,
        k: int,
        experts: int,
        hidden: int,
        width: int,
        types: tuple[int, int, int],
    ) -> None:
        super().__init__(skewed(tokens, k, experts), experts, hidden, width, types)

    def run(self, **settings: Any) -> np.ndarray:
        return run("QuantMoE", self.feeds, self.attributes, **settings)[0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize(
    "types",
    [
        (Q4_K, Q4_K, Q6_K),
        (Q8_0, Q4_0, Q5_K),
        (F32, F16, F32),
        (MXFP4, Q6_K, F16),
        (BF16, BF16, BF16),
    ],
)
def test_experts_are_summed_as_defined(types: tuple[int, int, int], tokens: int, isa: str) -> None:
    problem = Problem(tokens, 3, 9, 256, 256, types)
    wanted = problem.wanted()
    assert relative_error(problem.run(isa=isa, arithmetic="exact"), wanted) < 2e-6
    # Activations and SiLU products in int8, a scale per 32: each rounds by about 0.5 %.
    assert relative_error(problem.run(isa=isa), wanted) < 0.02


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
@pytest.mark.parametrize("tokens", [1, 6, 40])
def test_every_way_gives_the_same_bits(tokens: int, arithmetic: str, isa: str) -> None:
    problem = Problem(tokens, 3, 8, 256, 160, (Q4_K, Q6_K, Q8_0))
    wanted = problem.run(isa=isa, arithmetic=arithmetic)
    for way in WAYS:
        found = problem.run(isa=isa, arithmetic=arithmetic, **way)
        np.testing.assert_array_equal(found, wanted, err_msg=str(way))


@pytest.mark.parametrize("tokens", [1, 40])
def test_the_op_that_stays_on_the_host_gives_the_same_bits(tokens: int) -> None:
    problem = Problem(tokens, 3, 8, 256, 160, (Q4_K, Q6_K, Q8_0))
    found = run("HostQuantMoE", problem.feeds, problem.attributes)[0]
    np.testing.assert_array_equal(found, problem.run())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("path", ["auto", "few", "grouped"])
def test_a_token_has_the_same_bits_in_any_batch_and_on_any_threads(path: str, isa: str) -> None:
    problem = Problem(64, 3, 12, 256, 256, (Q4_K, Q4_K, Q6_K))
    node = session("QuantMoE", problem.attributes, moe_path=path, isa=isa)
    whole = node.run(None, problem.feeds)[0]
    for batch in (1, 7, 40):
        parts = [
            node.run(None, problem.tokens(at, min(at + batch, 64)))[0] for at in range(0, 64, batch)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    for threads in (1, 3):
        np.testing.assert_array_equal(problem.run(moe_path=path, isa=isa, threads=threads), whole)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 50),
    k=st.integers(1, 9),
    experts=st.integers(1, 20),
    hidden=st.sampled_from([32, 64, 96, 256]),
    width=st.sampled_from([32, 96, 160, 544]),
    types=st.tuples(*[st.sampled_from([Q8_0, Q4_0, F32])] * 3),
    way=st.sampled_from(WAYS),
)
def test_odd_shapes_come_out_right(
    tokens: int,
    k: int,
    experts: int,
    hidden: int,
    width: int,
    types: tuple[int, int, int],
    way: dict[str, Any],
) -> None:
    problem = Problem(tokens, k, experts, hidden, width, types)
    found = problem.run(**way)
    assert found.shape == (tokens, hidden)
    if tokens:
        assert relative_error(found, problem.wanted()) < 0.04


@pytest.mark.parametrize("width", [1, 20, 33])
def test_widths_that_are_no_groups_of_32_work_in_float_types(width: int) -> None:
    problem = Problem(7, 2, 3, 10, width, (F32, F16, F32))
    wanted = problem.wanted()
    for way in WAYS:
        assert relative_error(problem.run(**way), wanted) < 2e-6


def test_many_tokens_of_one_expert_are_cut_into_calls() -> None:
    problem = Problem(600, 1, 2, 64, 64, (Q8_0, Q8_0, Q8_0))
    problem.feeds["experts"][:] = 1
    wanted = problem.run(moe_path="one")
    for path in ("few", "grouped"):
        np.testing.assert_array_equal(problem.run(moe_path=path), wanted)


def test_a_prompt_of_several_passes_has_the_bits_of_its_parts() -> None:
    problem = Problem(4_200, 8, 16, 64, 64, (Q8_0, MXFP4, MXFP4))  # a pass has 32,768 pairs
    parts = [
        run("QuantMoE", problem.tokens(at, min(at + 1_000, 4_200)), problem.attributes)[0]
        for at in range(0, 4_200, 1_000)
    ]
    np.testing.assert_array_equal(problem.run(), np.concatenate(parts))


def test_an_expert_chosen_twice_counts_twice() -> None:
    problem = Problem(3, 4, 5, 64, 64, (Q8_0, Q8_0, Q8_0))
    problem.feeds["experts"][:] = 2
    for way in WAYS:
        assert relative_error(problem.run(**way), problem.wanted()) < 0.04


def test_one_session_runs_from_several_threads_at_once() -> None:
    problem = Problem(40, 4, 8, 256, 256, (Q4_K, Q4_K, Q6_K))
    node = session("QuantMoE", problem.attributes)
    feeds = [problem.tokens(0, count) for count in (1, 40, 3, 17)]
    alone = [node.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: node.run(None, feeds[i % 4])[0], range(80)))
    for i, result in enumerate(found):
        np.testing.assert_array_equal(result, alone[i % 4])


def test_a_token_that_is_no_number_leaves_the_others_alone() -> None:
    problem = Problem(6, 2, 4, 256, 256, (Q4_K, Q4_K, Q4_K))
    clean = {str(way): problem.run(**way) for way in WAYS}
    for bad in (np.nan, np.inf, 3e38):
        problem.feeds["x"][3] = bad
        for way in WAYS:
            found = problem.run(**way)
            np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(clean[str(way)], 3, 0))


@pytest.mark.parametrize("bad", [-1, 4, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("path", ["one", "few", "grouped"])
def test_an_expert_id_outside_the_matrices_is_refused(path: str, bad: int) -> None:
    problem = Problem(3, 2, 4, 64, 64, (Q8_0, Q8_0, Q8_0))
    problem.feeds["experts"][2, 1] = bad
    message = rf"\[QuantMoE\] blk.7.moe: input experts, got {bad} at \[2, 1\], expected 0 to 3"
    with pytest.raises(Exception, match=message):
        problem.run(moe_path=path, name="blk.7.moe")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("weights", (4, 2), "input weights, got shape .4, 2., expected 3 in dimension 0"),
        ("experts", (3, 1), "input experts, got shape .3, 1., expected 2 in dimension 1"),
        ("experts", (3,), "input experts, got rank 1, expected rank 2"),
        ("up", (5, 64, 68), "input up, got shape .5, 64, 68., expected 4 in dimension 0"),
        ("up", (4, 32, 68), "input up, got shape .4, 32, 68., expected 64 in dimension 1"),
        ("down", (4, 32, 68), "input down, got shape .4, 32, 68., expected 64 in dimension 1"),
        ("down", (4, 64, 34), "input down, .* expected rows of 68 bytes .64 values of Q8_0."),
        ("gate", (4, 64, 70), "input gate, .* expected rows of 68 bytes"),
        ("gate", (64, 68), "input gate, got rank 2, expected rank 3"),
    ],
)
def test_misfits_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    problem = Problem(3, 2, 4, 64, 64, (Q8_0, Q8_0, Q8_0))
    problem.feeds[name] = np.zeros(shape, problem.feeds[name].dtype)
    with pytest.raises(Exception, match=rf"\[QuantMoE\] node: {message}"):
        problem.run()


def test_no_slots_are_refused() -> None:
    problem = Problem(3, 1, 4, 64, 64, (Q8_0, Q8_0, Q8_0))
    for name in ("weights", "experts"):
        problem.feeds[name] = problem.feeds[name][:, :0]
    with pytest.raises(Exception, match=r"input weights, got shape .3, 0., expected a column"):
        problem.run()


@pytest.mark.parametrize("path", ["one", "few", "grouped"])
@pytest.mark.parametrize(("experts", "hidden", "width"), [(0, 64, 64), (4, 0, 64), (4, 64, 0)])
def test_experts_of_no_size_are_refused(experts: int, hidden: int, width: int, path: str) -> None:
    feeds = empty_experts(experts, hidden, width)
    with pytest.raises(Exception, match=r"gate, got shape .*, expected at least one expert, row"):
        run("QuantMoE", feeds, Problem(1, 1, 1, 64, 64, (Q8_0,) * 3).attributes, moe_path=path)


@pytest.mark.parametrize("attribute", ["gate_type", "up_type", "down_type"])
def test_unknown_and_missing_types_are_refused_by_name(attribute: str) -> None:
    types = {"gate_type": Q8_0, "up_type": Q8_0, "down_type": Q8_0}
    with pytest.raises(Exception, match=f"attribute {attribute}, got 77, expected a ggml type"):
        session("QuantMoE", types | {attribute: 77})
    del types[attribute]
    with pytest.raises(Exception, match=f"attribute {attribute} is missing"):
        session("QuantMoE", types)
