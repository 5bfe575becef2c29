"""Cases are all combinations; their tokens are the same for everybody."""

from __future__ import annotations

import pytest

from ferrum.runtime.bench.cases import Case, Tokens, cases, chunks


def test_cases_are_all_combinations_prompts_first() -> None:
    found = cases(prefill=[8, 16], decode=[4], contexts=[32, 64], batches=[1, 2], threads=[1])
    assert [case.label for case in found] == [
        "prefill 8", "prefill 8, batch 2", "prefill 16", "prefill 16, batch 2",
        "decode 4 at 32", "decode 4 at 32, batch 2", "decode 4 at 64", "decode 4 at 64, batch 2",
    ]  # fmt: skip
    assert [case.length for case in found] == [8, 8, 16, 16, 36, 36, 68, 68]
    assert [case.all_tokens for case in found] == [8, 16, 16, 32, 4, 8, 4, 8]


def test_tokens_are_drawn_alike_each_time_and_fill_prompt_or_context() -> None:
    prefill, decode = Case("prefill", 50, 2, 0, 1), Case("decode", 5, 3, 70, 1)
    drawn = Tokens.of(prefill, 1000)
    assert drawn == Tokens.of(prefill, 1000)
    assert [len(prompt) for prompt in drawn.prompts] == [50, 50]
    assert drawn.prompts[0] != drawn.prompts[1]
    assert drawn.steps == []
    drawn = Tokens.of(decode, 1000)
    assert [len(prompt) for prompt in drawn.prompts] == [70, 70, 70]
    assert [len(step) for step in drawn.steps] == [3] * 5
    values = [token for row in (*drawn.prompts, *drawn.steps) for token in row]
    assert 0 <= min(values) < 100 < 900 < max(values) < 1000


@pytest.mark.parametrize("most", [1, 3, 7, 10, 100])
def test_chunks_cover_prompts_in_order_in_full_steps(most: int) -> None:
    lengths = [7, 1, 12]
    steps = chunks(lengths, most)
    sizes = [sum(end - start for _, start, end in step) for step in steps]
    assert all(size == most for size in sizes[:-1])
    assert 0 < sizes[-1] <= most
    flat = [(s, i) for step in steps for s, start, end in step for i in range(start, end)]
    assert flat == [(s, i) for s, length in enumerate(lengths) for i in range(length)]
