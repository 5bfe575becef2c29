"""What an answer must look like (a schema, a pattern, tool calls) to the text of a grammar.

Grammars are written in llguidance's variant of Lark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.tags import END_THINK, END_TOOL_CALL, THINK, TOOL_CALL

# Whether thoughts come before the answer: never, where the model begins them with <think>, or
# always, as the prompt ended in <think>.
Thinking = Literal["never", "may", "open"]

Schema = Mapping[str, Any] | bool

# One space, or a new line and its indentation: a model that likes white space could otherwise write
# nothing else until it meets max_tokens.
_WHITESPACE = r"[ ]|\n[ \t]{0,40}"

# A comment of Lark's: what a line was made of, for errors in it. No JSON has a tab as it is.
_OF = " //\t"

_MOST_TEXT = 256 * 1024  # characters of a grammar

_NOTHING = "no text can match it (does it refer to nothing but itself?)"
# What llguidance has but a name for.
_IN_WORDS = {"NoExtension": _NOTHING, "NoExtensionBias": _NOTHING}


def thinking_of(template: str, prompt: str) -> Thinking:
    """Whether a model thinks before it answers a prompt that its chat template wrote."""
    end = prompt.rstrip()
    if end.endswith(THINK):
        return "open"
    if THINK in template and not end.endswith(END_THINK):
        return "may"
    return "never"


def schema_grammar(schema: Schema, thinking: Thinking) -> str:
    """A grammar of the JSON texts that a schema allows."""
    return _bounded("json_schema", f"{_start(thinking)}answer: {_json('json_schema', schema)}\n")


def regex_grammar(pattern: str, thinking: Thinking) -> str:
    """A grammar of the texts that a pattern matches from their first to their last character."""
    return _bounded("regex", _start(thinking) + _pattern(pattern))


def choice_grammar(texts: Sequence[str], thinking: Thinking) -> str:
    """A grammar of these texts."""
    pattern = "|".join(re.escape(text) for text in texts)
    return _bounded("choice", _start(thinking) + _pattern(f"({pattern})"))


def tool_call_grammar(
    tools: Sequence[Mapping[str, Any]], name: str | None, parallel: bool, thinking: Thinking
) -> str:
    """A grammar of the calls of tools as Qwen3 writes them, at least one.

    `tools` as in OpenAI's API: {"type": "function", "function": {"name", "parameters"}}. Only the
    tool `name` is called where that is given; more than once only where `parallel`.
    """
    schemas = dict(_signature(tool, i) for i, tool in enumerate(tools))
    if name is not None and name not in schemas:
        raise GrammarError(f"[tools] got {name!r} -> one of {', '.join(map(json.dumps, schemas))}")
    called = schemas if name is None else {name: schemas[name]}
    if not called:
        raise GrammarError("[tools] got none -> at least one to call")
    lines = [
        "answer: call (BETWEEN call)*" if parallel else "answer: call",
        f"BETWEEN: {_literal(chr(10))}",
        f"call: {' | '.join(f'call_{i}' for i in range(len(called)))}",
    ]
    for i, (tool, schema) in enumerate(called.items()):
        head = f'{TOOL_CALL}\n{{"name": {json.dumps(tool, ensure_ascii=False)}, "arguments": '
        tail = f"}}\n{END_TOOL_CALL}"
        lines.append(f"call_{i}: {_literal(head)} arguments_{i} {_literal(tail)}")
        what = f"tool {json.dumps(tool)}"
        lines.append(f"arguments_{i}: {_json(what, schema)}{_OF}{what}")
    return _bounded("tools", _start(thinking) + "\n".join(lines) + "\n")


def explained(problem: str, what: str, grammar: str) -> str:
    """A problem that llguidance found in a grammar: in one line, without its drawings of where.

    `what` is the grammar as a whole.
    """
    lines = [line for line in problem.splitlines() if line]
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    first = lines[0] if lines else "does not work"
    place = re.match(r"(?:at )?(\d+)\(\d+\): (?:failed to compile JSON schema: )?", first)
    if place is not None:
        first = first[place.end() :]
        line = grammar.split("\n")[int(place[1]) - 1]
        what = line.rpartition(_OF)[2] if _OF in line else what
    return f"[{what}] {(reasons or [_IN_WORDS.get(first, first)])[0][:300]}"


def _signature(tool: Mapping[str, Any], position: int) -> tuple[str, dict[str, Any]]:
    """A tool's name, and the schema of its arguments."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise GrammarError(f'[tools] {position} -> {{"type": "function", "function": {{"name"}}}}')
    schema = function.get("parameters")
    if schema is None:  # as OpenAI's API has it: a function without parameters
        return name, {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        what = json.dumps(name)
        raise GrammarError(f'[tool {what}] parameters -> a schema of "type": "object"')
    return name, {"type": "object", **schema}


def _start(thinking: Thinking) -> str:
    """The first rules: thoughts, where there are any, and what a model writes between."""
    end = END_THINK.replace("/", r"\/")
    if thinking == "never":
        return "start: answer\n"
    if thinking == "may":
        rules = f"start: (thoughts GAP?)? answer\nthoughts[lazy]: /{THINK}(.|\\n)*{end}/\n"
    else:
        rules = f"start: thoughts GAP? answer\nthoughts[lazy]: /(.|\\n)*{end}/\n"
    return rules + "GAP: /\\n{1,2}/\n"


def _json(what: str, schema: Schema) -> str:
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise GrammarError(f"[{what}] got {str(schema)[:80]} -> an object: a JSON schema")
    options = {"x-guidance": {"whitespace_pattern": _WHITESPACE}}
    try:
        # The schema's own options win.
        return "%json " + json.dumps({**options, **schema}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise GrammarError(f"[{what}] is no JSON: {reason}") from None


def _pattern(pattern: str) -> str:
    from llguidance import regex_to_lark

    return f"answer: ANSWER\nANSWER: /{regex_to_lark(pattern, '')}/\n"


def _literal(text: str) -> str:
    # The one character that JSON may have as it is, and a literal may not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def _bounded(what: str, grammar: str) -> str:
    if len(grammar) > _MOST_TEXT:
        raise GrammarError(f"[{what}] {len(grammar):,} characters -> at most {_MOST_TEXT:,}")
    return grammar
