"""The grammars' text; what it lets a model write is tested with masks, in test_grammar.py."""

from __future__ import annotations

import json

import pytest

from ferrum.runtime.grammar_text import (
    Thinking,
    explained,
    schema_grammar,
    thinking_of,
    tool_call_grammar,
)


@pytest.mark.parametrize(
    ("template", "prompt", "thinking"),
    [
        ("{{ messages }}", "user\nHi\nassistant\n", "never"),
        ("... '<think>' ...", "user\nHi\nassistant\n", "may"),
        ("... '<think>' ...", "user\nHi\nassistant\n<think>\n", "open"),
        ("... '<think>' ...", "user\nHi\nassistant\n<think>\n\n</think>\n\n", "never"),
    ],
)
def test_the_prompt_tells_whether_a_model_thinks(
    template: str, prompt: str, thinking: Thinking
) -> None:
    assert thinking_of(template, prompt) == thinking


def test_a_schema_s_own_options_win() -> None:
    (line,) = [
        line
        for line in schema_grammar({"x-guidance": {"lenient": True}}, "never").splitlines()
        if line.startswith("answer: %json ")
    ]
    assert json.loads(line.removeprefix("answer: %json ")) == {"x-guidance": {"lenient": True}}


NOTHING = "no text can match it (does it refer to nothing but itself?)"


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (
            "at 7(15): failed to compile JSON schema: bad\n  7 | call\n   ^",
            '[tool "b //\\tc"] bad',
        ),
        ("at 1(8): bad\n  1 | start: x\n", "[tools] bad"),
        ("1(8): bad", "[tools] bad"),
        ("at 2(1): invalid\n  (a\n  ^\nerror: unclosed group\n", "[tools] unclosed group"),
        ("bad\n<non-verbose/>", "[tools] bad"),
        ("NoExtensionBias\n<non-verbose/>", f"[tools] {NOTHING}"),
        ("NoExtension", f"[tools] {NOTHING}"),
        ("", "[tools] does not work"),
    ],
)
def test_a_problem_is_one_line_that_names_the_tool(problem: str, line: str) -> None:
    tools = [{"function": {"name": "a"}}, {"function": {"name": "b //\tc"}}]
    grammar = tool_call_grammar(tools, None, False, "never")
    at = grammar.splitlines().index(
        next(line for line in grammar.splitlines() if line.startswith("arguments_1: "))
    )
    assert explained(problem.replace("7(", f"{at + 1}("), "tools", grammar) == line
