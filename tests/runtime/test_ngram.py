"""Drafts come from the latest place where the text's last tokens stood before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.ngram import NgramIndex


def test_what_followed_the_last_tokens_is_drafted() -> None:
    assert NgramIndex().draft([1, 2, 3, 4, 5, 6, 2, 3], 3) == [4, 5, 6]


def test_the_latest_of_several_places_counts() -> None:
    assert NgramIndex().draft([1, 2, 7, 0, 1, 2, 8, 0, 1, 2], 1) == [8]


def test_a_longer_agreement_counts_before_a_later_place() -> None:
    assert NgramIndex().draft([9, 5, 1, 2, 7, 0, 6, 1, 2, 8, 0, 9, 5, 1, 2], 1) == [7]


def test_a_repetition_is_drafted_beyond_the_end_of_the_text() -> None:
    assert NgramIndex().draft([1, 2, 3, 1, 2, 3, 1, 2], 5) == [3, 1, 2, 3, 1]


def test_nothing_is_drafted_where_the_end_is_new() -> None:
    assert NgramIndex().draft([1, 2, 3, 4], 3) == []
    assert NgramIndex().draft([], 3) == []
    assert NgramIndex().draft([1, 1, 1], 0) == []


def _searched(tokens: list[int], most: int) -> list[int]:
    """The same by going through the whole text."""
    for size in (4, 3, 2):
        for end in range(len(tokens) - 1, size - 1, -1):
            if len(tokens) >= size and tokens[end - size : end] == tokens[-size:]:
                found = list(tokens)
                for i in range(most):
                    found.append(found[end + i])
                return found[len(tokens) :]
    return []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 6), st.integers(1, 4))
def test_a_growing_text_gives_what_a_search_through_all_of_it_gives(
    tokens: list[int], most: int, stride: int
) -> None:
    index = NgramIndex()
    for end in range(0, len(tokens) + 1, stride):
        assert index.draft(tokens[:end], most) == _searched(tokens[:end], most)
