"""QuantMoE on the CUDA kernels: one sum, whichever of its ways computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_node import run, session
from hypothesis import given, settings
from hypothesis import strategies as st
from moe_problem import MoeProblem, empty_experts, relative_error, skewed

F32, F16, BF16, Q4_0, Q8_0, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS, MXFP4 = (
    0, 1, 30, 2, 8, 11, 12, 13, 14, 23, 39,
)  # fmt: skip
TENSOR_CORE_TYPES = (Q4_K, Q5_K, Q6_K, Q8_0, Q4_0, IQ4_XS, MXFP4, F16, BF16)
WAYS = ("one", "few", "grouped", "auto")


class Problem(MoeProblem):
    """One that the CUDA kernels run."""

    def error(self, way: str, **settings: str) -> float:
        """Of the result, relative."""
        found = run("QuantMoE", self.feeds, self.attributes, moe_path=way, **settings)[0]
        return relative_error(found, self.wanted())


def tolerance(way: str, types: tuple[int, int, int]) -> float:
    """Float32 where few tokens meet native types; a few roundings to float16 elsewhere."""
    return 2e-6 if way in ("one", "few") and Q3_K not in types else 1.5e-3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize(
    "types",
    [
        (Q4_K, Q4_K, Q6_K), (Q4_K, Q4_K, Q4_K), (Q5_K, Q5_K, Q8_0), (Q8_0, Q8_0, Q8_0),
        (MXFP4, MXFP4, MXFP4), (IQ4_XS, IQ4_XS, Q4_0), (F16, F16, BF16), (F32, F32, F32),
        (Q4_K, Q6_K, Q5_K), (Q3_K, Q3_K, Q3_K), (Q4_K, Q4_K, Q3_K),
    ],
    ids=str,
)  # fmt: skip
def test_all_ways_equal_the_definition(types: tuple[int, int, int], tokens: int, way: str) -> None:
    problem = Problem(skewed(tokens, 4, 16), 16, 256, 256, types)
    assert problem.error(way) < tolerance(way, types)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "routing",
    [
        np.zeros((33, 1)),  # all to one expert
        np.full((70, 2), [3, 0]),
        np.arange(64).reshape(64, 1) % 8,  # evenly
        np.array([[7, 0, 3]]),
        np.array([[2, 2], [2, 5]]),  # an expert twice
        np.zeros((0, 2)),
    ],
    ids=["one", "two", "even", "lone", "twice", "none"],
)
def test_adversarial_routings_come_out_right(routing: np.ndarray, way: str) -> None:
    problem = Problem(routing, 8, 256, 512, (Q4_K, Q4_K, Q6_K))
    assert problem.error(way) < 1.5e-3


def test_more_tokens_than_few_are_at_a_time_come_out_right() -> None:
    problem = Problem(skewed(2051, 1, 3), 3, 32, 32, (Q8_0, Q8_0, Q8_0))
    assert problem.error("few") < tolerance("few", (Q8_0, Q8_0, Q8_0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize(("hidden", "width"), [(37, 21), (2, 50), (130, 3), (33, 64)])
@pytest.mark.parametrize("types", [(F16, F16, BF16), (F32, F32, F32), (BF16, F32, F16)], ids=str)
def test_float_experts_of_odd_shapes_come_out_right(
    types: tuple[int, int, int], hidden: int, width: int, tokens: int, way: str
) -> None:
    problem = Problem(skewed(tokens, 2, 8), 8, hidden, width, types)
    assert problem.error(way) < 1.5e-3


@pytest.mark.parametrize("size", ["auto", "8", "64"])
@pytest.mark.parametrize(
    ("routing", "experts"),
    [
        (skewed(200, 4, 16), 16),
        (skewed(1030, 1, 5), 5),
        (np.zeros((600, 1)), 3),
        (np.full((300, 2), [3, 0]), 4),
        (np.arange(1024).reshape(512, 2) % 64, 64),
        (skewed(9, 4, 600), 600),  # few pairs, many experts
    ],
    ids=["skewed", "alone", "one", "two", "even", "experts"],
)
def test_pairs_and_experts_that_no_block_sorts_alone_come_out_right(
    routing: np.ndarray, experts: int, size: str
) -> None:
    problem = Problem(routing, experts, 32, 64, (Q8_0, Q8_0, Q8_0))
    assert problem.error("grouped", moe_block_size=size) < 1.5e-3


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 90),
    k=st.integers(1, 8),
    experts=st.integers(8, 20),
    hidden=st.sampled_from([32, 96, 160, 256]),
    width=st.sampled_from([32, 64, 224]),
    way=st.sampled_from(WAYS),
)
def test_odd_shapes_come_out_right(
    tokens: int, k: int, experts: int, hidden: int, width: int, way: str
) -> None:
    problem = Problem(skewed(tokens, k, experts, k), experts, hidden, width, (Q8_0, Q8_0, Q4_0))
    assert problem.error(way) < 1.5e-3


@pytest.mark.parametrize("size", ["8", "16", "32", "48", "64"])
@pytest.mark.parametrize(
    "types",
    [(Q4_K, Q4_K, Q6_K), (Q5_K, Q5_K, Q4_K), (Q8_0, Q8_0, Q4_0), (MXFP4, IQ4_XS, F16)],
    ids=str,
)
def test_the_grouped_way_is_right_with_tiles_of_any_size(
    types: tuple[int, int, int], size: str
) -> None:
    problem = Problem(skewed(90, 3, 12), 12, 512, 256, types)
    assert problem.error("grouped", moe_block_size=size) < 1.5e-3


@pytest.mark.parametrize("size", ["8", "16", "32", "64"])
@pytest.mark.parametrize("type_id", TENSOR_CORE_TYPES)
def test_every_type_is_right_in_tiles_of_every_size(type_id: int, size: str) -> None:
    problem = Problem(skewed(70, 3, 8), 8, 256, 256, (type_id,) * 3)
    assert problem.error("grouped", moe_block_size=size) < 1.5e-3


@pytest.mark.parametrize("type_id", [*TENSOR_CORE_TYPES, F32])
def test_every_type_is_right_beside_one_that_is_decoded_first(type_id: int) -> None:
    """Few pairs: of the experts that they name, all matrices are."""
    problem = Problem(skewed(2, 3, 8), 8, 256, 256, (type_id, Q3_K, type_id))
    assert problem.error("few") < 1.5e-3


@pytest.mark.parametrize("way", ["one", "few"])
@pytest.mark.parametrize("up", ["like gate", "of another type"])
@pytest.mark.parametrize("type_id", [*TENSOR_CORE_TYPES, F32])
def test_every_type_is_right_where_pairs_are_few(type_id: int, up: str, way: str) -> None:
    up_type = type_id if up == "like gate" else F32 if type_id != F32 else F16
    problem = Problem(skewed(3, 3, 8), 8, 256, 256, (type_id, up_type, type_id))
    assert problem.error(way) < 2e-6


@pytest.mark.parametrize("types", [(Q4_K, Q4_K, Q6_K), (Q5_K, Q5_K, Q8_0)], ids=str)
def test_bits_do_not_depend_on_the_size_of_tiles(types: tuple[int, int, int]) -> None:
    problem = Problem(skewed(70, 3, 12), 12, 512, 256, types)
    found = [
        run("QuantMoE", problem.feeds, problem.attributes, moe_path="grouped", moe_block_size=size)
        for size in ("auto", "8", "16", "32", "48", "64")
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other[0], found[0][0])


@pytest.mark.parametrize("most", [29, 30, 32])
def test_the_most_tokens_of_the_way_of_few_count_whatever_they_are(most: int) -> None:
    problem = Problem(skewed(30, 4, 16), 16, 256, 256, (Q4_K, Q4_K, Q6_K))
    found, few, grouped, auto = (
        run("QuantMoE", problem.feeds, problem.attributes, **settings)[0]
        for settings in (
            {"moe_few_max": str(most)},
            {"moe_path": "few"},
            {"moe_path": "grouped"},
            {},
        )
    )
    assert not np.array_equal(few, grouped)
    np.testing.assert_array_equal(auto, grouped)
    np.testing.assert_array_equal(found, few if most >= 30 else grouped)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("experts", "hidden", "width"), [(0, 64, 64), (4, 0, 64), (4, 64, 0)])
def test_experts_of_no_size_are_refused(experts: int, hidden: int, width: int, way: str) -> None:
    feeds = empty_experts(experts, hidden, width)
    with pytest.raises(Exception, match=r"gate, got shape .*, expected at least one expert, row"):
        run("QuantMoE", feeds, dict.fromkeys(("gate_type", "up_type", "down_type"), Q8_0),
            moe_path=way)  # fmt: skip


@pytest.mark.parametrize(("way", "tokens"), [("few", 60), ("grouped", 60), ("grouped", 180)])
def test_a_tokens_bits_do_not_depend_on_the_others(way: str, tokens: int) -> None:
    problem = Problem(skewed(tokens, 4, 16), 16, 256, 256, (Q4_K, Q4_K, Q6_K))
    node = session("QuantMoE", problem.attributes, moe_path=way)
    whole = node.run(None, problem.feeds)[0]
    of_tokens = ("x", "weights", "experts")
    for first, last in ((0, 1), (13, 17), (20, 60), (0, tokens - 1)):
        part: dict[str, Any] = {
            n: a[first:last] if n in of_tokens else a for n, a in problem.feeds.items()
        }
        np.testing.assert_array_equal(node.run(None, part)[0], whole[first:last])


@pytest.mark.parametrize(
    ("way", "tokens"), [*((way, 20) for way in WAYS), ("grouped", 200)], ids=str
)
def test_a_token_with_an_expert_that_does_not_exist_becomes_nan_and_no_other(
    way: str, tokens: int
) -> None:
    chosen = skewed(tokens, 3, 8)
    problem = Problem(chosen, 8, 256, 256, (Q4_K, Q4_K, Q6_K))
    wanted = problem.wanted()
    problem.feeds["experts"][4, 1], problem.feeds["experts"][9, 0] = 8, -1
    problem.feeds["experts"][11, 2] = 2**31 - 1
    found = run("QuantMoE", problem.feeds, problem.attributes, moe_path=way)[0]
    bad = [4, 9, 11]
    assert np.isnan(found[bad]).all()
    rest = [t for t in range(tokens) if t not in bad]
    assert np.linalg.norm(found[rest] - wanted[rest]) < 1.5e-3 * np.linalg.norm(wanted[rest])
