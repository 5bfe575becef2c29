"""Content, reasoning and tool calls come out the same however a message is cut into pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ferrum.runtime.serve.message_parser import Delta, MessageParser

Message = tuple[str, str, list[tuple[str, str]]]


def deltas(pieces: list[str], *, cut_off: bool = False, **options: bool) -> list[Delta]:
    chosen = {"reasoning_open": False, "parse_tools": True, **options}
    parser = MessageParser(**chosen)  # type: ignore[arg-type]
    return [*(parser.add(piece) for piece in pieces), parser.end(cut_off=cut_off)]


def joined(parts: list[Delta]) -> Message:
    """Content, reasoning, and each call's name and arguments, as a client puts them together."""
    calls: list[tuple[str, str]] = []
    for delta in itertools.chain.from_iterable(part.tool_calls for part in parts):
        if delta.id is not None:
            assert delta.index == len(calls)
            assert delta.name is not None
            calls.append((delta.name, ""))
        assert delta.index == len(calls) - 1
        name, arguments = calls[-1]
        calls[-1] = (name, arguments + delta.arguments)
    content = "".join(part.content for part in parts)
    return content, "".join(part.reasoning for part in parts), calls


def parsed(text: str, **options: bool) -> Message:
    """What a message is, in one piece; and the same character by character."""
    whole = joined(deltas([text], **options))
    assert joined(deltas(list(text), **options)) == whole
    return whole


CALL = '<tool_call>\n{"name": "get", "arguments": {"a": 1}}\n</tool_call>'
GET = ("get", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ("", "", [])),
        ("Hi", ("Hi", "", [])),
        ("\n Hi \n", ("\n Hi \n", "", [])),
        ("<think>\nHm.\n</think>\n\nHi", ("Hi", "Hm.", [])),
        ("\n<think>\n\n</think>\n\nHi", ("Hi", "", [])),
        ("<think>a <b> </b>\n\nc</think>  code", ("  code", "a <b> </b>\n\nc", [])),
        ("<think>cut off</thi", ("", "cut off</thi", [])),
        ("Use <think> and </think>", ("Use <think> and </think>", "", [])),
        (CALL, ("", "", [GET])),
        (f"\n{CALL}\n", ("", "", [GET])),
        (f"<think>\nHm.\n</think>\n\n{CALL}", ("", "Hm.", [GET])),
        (f"Let me see. \n\n{CALL}\n", ("Let me see.", "", [GET])),
        (f"{CALL}\n{CALL}", ("", "", [GET, GET])),
        (f"{CALL} {CALL}", ("", "", [GET, GET])),
        (f"One.\n{CALL}\nTwo.\n{CALL}\n\nThree.\n", ("One.\nTwo.\nThree.\n", "", [GET] * 2)),
        (f"{CALL}\nDone.", ("Done.", "", [GET])),
    ],
)
def test_messages_of_qwen3(text: str, message: Message) -> None:
    assert parsed(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hm.\n</think>\n\nHi", ("Hi", "Hm.", [])),
        ("\n\nHm.</think>Hi", ("Hi", "Hm.", [])),
        ("<think>\nHm.\n</think>\nHi", ("Hi", "Hm.", [])),
        (f"Hm.\n</think>\n\n{CALL}", ("", "Hm.", [GET])),
        ("never ends \n", ("", "never ends \n", [])),
        ("", ("", "", [])),
    ],
)
def test_a_prompt_that_ended_in_think_goes_on_with_reasoning(text: str, message: Message) -> None:
    assert parsed(text, reasoning_open=True) == message


def test_tags_are_text_where_they_are_not_asked_for() -> None:
    text = f"<think>\nHm.\n</think>\n\n {CALL}\n"
    assert parsed(text, parse_tools=False) == (f" {CALL}\n", "Hm.", [])
    assert parsed(text, parse_tools=False, parse_reasoning=False) == (text, "", [])
    for option in (False, True):
        message = parsed(text, parse_reasoning=False, reasoning_open=option)
        assert message == ("<think>\nHm.\n</think>", "", [GET])


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{ "a" : [ {}, "}" , "\\"}\\\\" ] }',
        '{"a": "</tool_call> <tool_call> {"}',
        '{"a": "é\\u00e9\\n"}',
        '{"a": None, "b": \'x\'}',  # no JSON, but its end is clear
    ],
)
@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ('{"name": "f", "arguments": ', "}"),
        ('{ "name":"f" ,\n"arguments":', "\n }"),
        ('{"name": "f", "arguments": ', ""),  # a brace short
    ],
)
def test_arguments_are_handed_on_as_they_are_written(arguments: str, head: str, tail: str) -> None:
    text = f"<tool_call>\n{head}{arguments}{tail}\n</tool_call>"
    assert parsed(f"{text}\n{CALL}") == ("", "", [("f", arguments), GET])


@pytest.mark.parametrize(
    ("written", "call"),
    [
        ('{"arguments": {"a": "é"}, "name": "f"}', ("f", '{"a": "é"}')),
        ('{"name": "f"}', ("f", "{}")),
        (
            '{"arguments": {"a":1e999, "a" : 1.50 } , "name": "f"}',
            ("f", '{"a":1e999, "a" : 1.50 }'),
        ),
        ('{"name": "f", "arguments": null}', ("f", "{}")),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', ("f", '{"a": 1}')),
        ('{"name": "a\\u00e9\\n", "arguments": {}}', ("aé\n", "{}")),
    ],
)
def test_other_ways_to_write_a_call_are_understood(written: str, call: tuple[str, str]) -> None:
    assert parsed(f"<tool_call>{written}</tool_call>{CALL}") == ("", "", [call, GET])


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "\n",
        "hello",
        "\n{hello",
        "\n{\n",
        '{"name": "f"',
        '{"name": "", "arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": 1}',
        '{"name": "f", "parameters": {}}',
        '{"name": "f\n", "arguments": {}}',
        '{"name": "f\\q", "arguments": {}}',
        '{"arguments": {"a": 1}, "name": f}',
        "[]",
        "{}",
        "<function=f>\n</function>",
    ],
)
@pytest.mark.parametrize("tag", ["", "\n</tool_call>", "</tool_call>\nand so on\n"])
def test_what_does_not_begin_as_a_call_is_content_to_the_last_character(
    broken: str, tag: str
) -> None:
    text = f"See: \n<tool_call>{broken}{tag}"
    assert parsed(text) == (text, "", [])


def test_a_call_after_a_broken_one_is_found() -> None:
    content, _, calls = parsed(f"<tool_call>\nfoo\n</tool_call>\n{CALL}")
    assert (content, calls) == ("<tool_call>\nfoo\n</tool_call>", [GET])
    content, _, calls = parsed(f"<tool_call>\n{CALL}")
    assert (content, calls) == ("<tool_call>", [GET])


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"code": "a\nb"}}', '{"code": "a\nb"}'),
        ('{"a": [1, 2}}', '{"a": [1, 2}'),
        ('{"a": [1, }', '{"a": [1, '),
        ('{"a": "it never closes\n}', '{"a": "it never closes'),
        ('{"a": "nor here}', '{"a": "nor here}'),  # the call's own brace might be the string's
        ('{"a": 1\n', '{"a": 1\n'),
    ],
)
def test_arguments_that_are_no_json_are_the_caller_s_to_check(written: str, arguments: str) -> None:
    text = f'<tool_call>\n{{"name": "f", "arguments": {written}\n</tool_call>\nDone.'
    content, _, [(_, found)] = parsed(text)
    assert (content, found.rstrip()) == ("Done.", arguments.rstrip())


@pytest.mark.parametrize("length", range(len(CALL)))
def test_a_call_that_is_cut_off_loses_nothing(length: int) -> None:
    content, _, calls = parsed(f"Hi\n{CALL[:length]}")
    begins = CALL.index('{"a"')
    if length <= begins:
        assert (content, calls) == (f"Hi\n{CALL[:length]}", [])
    else:
        assert (content, calls) == ("Hi", [("get", CALL[begins : min(length, begins + 8)])])


WRITTEN = '{"name": "get", "arguments": {"a": 1}}'
ARGUMENTS_FIRST = '{"arguments": {"a": 1}, "name": "get"}'


@pytest.mark.parametrize("written", [WRITTEN, ARGUMENTS_FIRST])
@pytest.mark.parametrize("before", ["", "\n", "Hi", "Hi \n\n", f"{CALL}\n", f"Hi\n{CALL}\n"])
def test_the_beginning_of_a_call_that_a_limit_cuts_off_is_dropped(
    before: str, written: str
) -> None:
    content, _, calls = parsed(before)
    content = content.rstrip() if "get" not in before else content
    sure = written.index("}") if written is ARGUMENTS_FIRST else written.index('{"a"')
    for length in range(sure + 1):
        text = f"{before}<tool_call>\n{written[:length]}"
        assert parsed(text, cut_off=True) == (content, "", calls)


@pytest.mark.parametrize(
    "text", ["Hi\n<tool_call", "<tool_call>\nfoo", '<tool_call>{"name": "f"}}', "<tool_call>{}"]
)
def test_what_a_limit_cuts_off_and_begins_no_call_is_content(text: str) -> None:
    assert parsed(text, cut_off=True)[0] == parsed(text)[0] != ""


@pytest.mark.parametrize("length", range(len(CALL)))
@pytest.mark.parametrize("cut_off", [False, True])
def test_where_calls_are_all_that_is_wanted_nothing_else_is_told(
    length: int, cut_off: bool
) -> None:
    text = f"<think>\nHm.\n</think>\n\n{CALL}\n{CALL[:length]}"
    content, reasoning, calls = parsed(text, calls_only=True, cut_off=cut_off)
    begins = CALL.index('{"a"')
    more = [("get", CALL[begins : min(length, begins + 8)])] if length > begins else []
    assert (content, reasoning, calls) == ("", "Hm.", [GET, *more])


def test_what_stands_between_a_call_and_its_tag_is_content() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {}}} and\n</tool_call>\nDone.'
    assert parsed(text) == ("} and\nDone.", "", [("f", "{}")])


PARTS = st.sampled_from(
    [
        "<think>", "</think>", "<tool_call>", "</tool_call>", CALL, "\n", " ", "Hi", "<", "<th",
        "é", "<tool_", '{"name": "f", "arguments": ', '{"name": "f"', '{"a": "b', '"', "{", "}",
        "}}", "[", ", ", ":", '"arguments"', "\\", "null", "<think>\nHm.\n</think>\n\n",
    ]
)  # fmt: skip


@given(
    parts=st.lists(PARTS, max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    options=st.fixed_dictionaries(
        {"reasoning_open": st.booleans(), "parse_tools": st.booleans(),
         "parse_reasoning": st.booleans(), "calls_only": st.booleans(),
         "cut_off": st.booleans()}
    ),
)  # fmt: skip
@example([CALL, "}", CALL], [70], {"reasoning_open": False})
def test_where_pieces_end_makes_no_difference(
    parts: list[str], cuts: list[int], options: dict[str, bool]
) -> None:
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert joined(deltas(pieces, **options)) == parsed(text, **options)


@given(parts=st.lists(PARTS, max_size=12))
def test_no_word_is_lost_and_none_told_twice(parts: list[str]) -> None:
    text = "".join(parts)
    content, reasoning, calls = parsed(text)
    told = content + reasoning + "".join(arguments for _, arguments in calls)
    for word in ("Hi", "é"):
        assert told.count(word) == text.count(word)


@given(text=st.text(st.sampled_from('<>thinkool_ca/l {}"\n'), max_size=40))
def test_text_without_a_whole_tag_is_shown_as_it_is(text: str) -> None:
    if "<tool_call>" not in text and "<think>" not in text:
        assert parsed(text) == (text, "", [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(
    calls=st.lists(
        st.tuples(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=3)), max_size=3
    ),
    ascii_only=st.booleans(),
)
def test_any_calls_come_back(calls: list[tuple[str, Any]], ascii_only: bool) -> None:
    blocks = [
        json.dumps({"name": name, "arguments": arguments}, ensure_ascii=ascii_only)
        for name, arguments in calls
    ]
    text = "\n".join(f"<tool_call>\n{block}\n</tool_call>" for block in blocks)
    content, _, found = parsed(text)
    assert content == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


def test_a_call_is_told_as_it_is_written() -> None:
    pieces = ["I look.", "\n", "<tool", "_call>", '\n{"name": "', "get_it", '", "argu', 'ments": ',
              '{"', 'a": ', "12", "}", "}", "\n</tool", "_call>", "\n"]  # fmt: skip
    told = deltas(pieces)
    assert [delta.content for delta in told] == ["I look.", *[""] * 16]
    calls = [[(part.name, part.arguments) for part in delta.tool_calls] for delta in told]
    assert calls[8:] == [[("get_it", '{"')], [(None, 'a": ')], [(None, "12")], [(None, "}")],
                         *[[]] * 5]  # fmt: skip
    assert not any(calls[:8])


def test_text_is_held_back_only_while_it_may_become_a_tag() -> None:
    def contents(*pieces: str, **options: bool) -> list[str]:
        return [delta.content for delta in deltas(list(pieces), **options)]

    assert contents("a <", "b") == ["a", " <b", ""]
    assert contents("a <tool", "box") == ["a", " <toolbox", ""]
    assert contents("a \n", "b", " ") == ["a", " \nb", "", " "]
    assert contents("a <", "b ", parse_tools=False) == ["a <", "b ", ""]
    assert contents("<tool_call>", "\n", "f", "oo") == ["", "", "<tool_call>\nf", "oo", ""]
    assert contents("<", "thing>") == ["", "<thing>", ""]
    thoughts = deltas(["<think>", "\n", "Hm", "\n", "!\n</", "b>"])
    assert [delta.reasoning for delta in thoughts] == ["", "", "Hm", "", "\n!", "\n</b>", ""]


def test_every_call_has_an_id_of_its_own() -> None:
    parts = [part for delta in deltas([CALL, CALL, CALL]) for part in delta.tool_calls]
    ids = [part.id for part in parts]
    assert [part.index for part in parts] == [0, 1, 2]
    assert len(set(ids)) == 3
    assert all(id is not None and id.startswith("call_") for id in ids)


def test_a_call_too_deep_to_be_read_is_text() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    text = f'<tool_call>\n{{"arguments": {{"a": {deep}}}, "name": "f"}}\n</tool_call>'
    content, _, calls = joined(deltas([text]))
    assert (deep in content, calls) == (True, [])
