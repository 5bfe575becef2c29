"""Objects in text end where a JSON parser says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.serve.json_extent import JsonExtent, member_text

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.sampled_from('{}[]"\\<>a é'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@given(
    value=st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    rest=st.sampled_from(["", "}", "\n</tool_call>", '{"a": 1}', "</"]),
    indent=st.sampled_from([None, 1]),
    cut=st.integers(0, 60),
)
def test_an_object_ends_with_its_own_brace(
    value: object, rest: str, indent: int | None, cut: int
) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=False)
    text, extent = written + rest, JsonExtent()
    cut = min(cut, len(written) - 1)
    assert extent.feed(text[:cut]) == cut
    assert not extent.closed
    assert extent.feed(text[cut:]) == len(written) - cut
    assert (extent.closed, extent.broken) == (True, False)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ('{"a": [1, 2}', 11),
        ('{"a": "x\ny"}', 8),
        ('{"a": "x\\\ny"}', 9),
        ('{"a": </tool_call>', 6),
        ("{]", 1),
    ],
)
def test_what_no_object_could_have_breaks_it(text: str, sound: int) -> None:
    extent = JsonExtent()
    assert extent.feed(text) == sound
    assert (extent.closed, extent.broken) == (False, True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a": {"b": "}"}, "c": 1}', '{"b": "}"}'),
        ('{ "c" : [1, {"a": 2}] ,\n"a"\t: 1.50 }', "1.50"),
        ('{"a": 1, "a": "\\"\u00e9"}', '"\\"\u00e9"'),
    ],
)
def test_a_value_is_found_as_it_is_written(text: str, wanted: str) -> None:
    assert member_text(text, "a") == wanted
