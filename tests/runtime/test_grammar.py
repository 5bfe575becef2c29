"""What the sample model writes under a mask is what the schema, pattern or tools ask for."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ferrum.runtime.artifact import TokenizerFiles
from ferrum.runtime.grammar import Grammars
from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.grammar_text import Thinking
from ferrum.runtime.llm import LLM
from ferrum.runtime.request import Completion
from ferrum.runtime.sampler import Mask, SamplingParams
from ferrum.runtime.tokenizer import Tokenizer

SEEDS = st.integers(0, 2**32)
PROMPT = "# The answer is\n"


@pytest.fixture(scope="module")
def llm(exported: Path) -> Iterator[LLM]:
    with LLM(exported) as llm:
        yield llm


@pytest.fixture(scope="module")
def grammars(llm: LLM) -> Iterator[Grammars]:
    grammars = Grammars(llm.tokenizer, llm.session.vocabulary)
    yield grammars
    grammars.close()


def answer(llm: LLM, mask: Mask, seed: int = 0, **params: Any) -> Completion:
    """What the model writes, drawn as it likes; the grammar must bring it to an end."""
    chosen = {"temperature": 1.0, "max_tokens": None, **params}
    completion = llm.generate(PROMPT, SamplingParams(mask=mask, seed=seed, **chosen))[0]
    assert completion.finish_reason == "stop", completion.text
    return completion


def walk(mask: Mask, tokenizer: Tokenizer, seed: int, most: int = 400) -> list[int]:
    """Tokens drawn evenly from those that the mask allows, up to an end token."""
    random, tokens = np.random.default_rng(seed), list[int]()
    while len(tokens) < most:
        allowed = mask(tokens)
        assert allowed is not None
        token = int(random.choice(np.flatnonzero(allowed)))
        if token in tokenizer.files.eos:
            return tokens
        tokens.append(token)
    raise AssertionError(f"no end after {tokenizer.decode(tokens)!r}")


# Schemas whose texts cannot go on for ever, as a model of this size would have them do.
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text(max_size=4))
BOUNDS = st.tuples(st.integers(-500, 500), st.integers(0, 1000))
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "null"}, {"type": "boolean"}]),
    SCALARS.map(lambda value: {"const": value}),
    st.lists(SCALARS, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    BOUNDS.map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[0] + b[1]}),
    st.integers(0, 4).map(lambda n: {"type": "string", "maxLength": n}),
    st.sampled_from([r"^[a-f]{1,3}$", r"^(yes|no)\d?$", r"^\d{4}-\d\d$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.sampled_from(["date", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
)
NAMES = st.text(min_size=1, max_size=5)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def array(items: dict[str, Any], least: int, more: int) -> dict[str, Any]:
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + more}

    def record(properties: dict[str, Any], optional: int) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "additionalProperties": False,
                "required": list(properties)[optional:]}  # fmt: skip

    return st.one_of(
        st.builds(array, inner, st.integers(0, 1), st.integers(0, 1)),
        st.builds(record, st.dictionaries(NAMES, inner, max_size=3), st.integers(0, 2)),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    )


SCHEMAS = st.recursive(LEAVES, containers, max_leaves=5)


@settings(max_examples=40, deadline=None)
@given(schema=SCHEMAS, seed=SEEDS)
def test_any_schema_is_kept(
    llm: LLM, grammars: Grammars, schema: dict[str, Any], seed: int
) -> None:
    mask = grammars.json_schema(schema)
    completion = llm.generate(
        PROMPT, SamplingParams(mask=mask, seed=seed, temperature=1.0, max_tokens=None)
    )[0]
    assume(completion.finish_reason == "stop")  # else arrays of arrays that filled the context
    jsonschema.validate(
        json.loads(completion.text),
        schema,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_json_object_is_one(llm: LLM, grammars: Grammars, seed: int) -> None:
    completion = llm.generate(
        PROMPT, SamplingParams(mask=grammars.json_object(), seed=seed, temperature=1.0)
    )[0]
    if completion.finish_reason == "stop":
        assert isinstance(json.loads(completion.text), dict)
    else:
        assert completion.text.startswith("{")


@pytest.mark.parametrize("schema", [True, {}])
def test_a_schema_without_demands_is_any_json(grammars: Grammars, schema: bool | dict) -> None:
    mask = grammars.json_schema(schema)
    assert mask([]) is not None


@settings(deadline=None, max_examples=20)
@given(
    pattern=st.sampled_from(
        [r"[A-Z][a-z]{2,9}, \d{1,2}", r"(a|b/c)\n\\?", r"\w{3}", "", r"[^\x00-\x7f]{2}", r"é{1,3}"]
    ),
    seed=SEEDS,
)
def test_the_whole_answer_matches_a_pattern(
    llm: LLM, grammars: Grammars, pattern: str, seed: int
) -> None:
    assert re.fullmatch(pattern, answer(llm, grammars.regex(pattern), seed).text)


def test_greedy_answers_keep_to_it_too(llm: LLM, grammars: Grammars) -> None:
    text = answer(llm, grammars.regex(r"(yes|no), \d{3}"), temperature=0.0).text
    assert re.fullmatch(r"(yes|no), \d{3}", text)


def tool(name: str, parameters: object = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False}  # fmt: skip


TOOLS = [
    tool("get_weather", record(city={"enum": ["Paris", "Łódź", 'x"y']}, days={"type": "boolean"})),
    tool("get", {"properties": {"n": {"$ref": "#/$defs/n"}}, "additionalProperties": False,
                 "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}}),
    tool("now"),
    tool('an odd "name"\n', record()),
]  # fmt: skip
CALL = re.compile(r'<tool_call>\n(\{"name": .+?, "arguments": \{.*?\}\})\n</tool_call>', re.DOTALL)


def calls(text: str) -> list[dict[str, Any]]:
    """The calls that a text consists of, as Qwen3's template writes them."""
    assert re.fullmatch(rf"{CALL.pattern}(\n{CALL.pattern})*", text, re.DOTALL)
    return [json.loads(call) for call in CALL.findall(text)]


def check(call: dict[str, Any]) -> None:
    assert list(call) == ["name", "arguments"]
    functions = {tool["function"]["name"]: tool["function"] for tool in TOOLS}
    jsonschema.validate(call["arguments"], functions[call["name"]]["parameters"] or record())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_a_forced_call_is_of_one_tool_by_its_schema(
    llm: LLM, grammars: Grammars, seed: int
) -> None:
    (call,) = calls(answer(llm, grammars.tool_calls(TOOLS, parallel=False), seed).text)
    check(call)


def test_every_tool_can_be_called_and_several_times(llm: LLM, grammars: Grammars) -> None:
    names, counts = set[str](), set[int]()
    for seed in range(25):
        tokens = walk(grammars.tool_calls(TOOLS), llm.tokenizer, seed, most=2000)
        found = calls(llm.tokenizer.decode(tokens))
        for call in found:
            check(call)
            names.add(call["name"])
        counts.add(len(found))
    assert names == {tool["function"]["name"] for tool in TOOLS}
    assert {1, 2, 3} <= counts


@pytest.mark.parametrize("name", [tool["function"]["name"] for tool in TOOLS])
def test_a_named_tool_is_called(llm: LLM, grammars: Grammars, name: str) -> None:
    (call,) = calls(answer(llm, grammars.tool_calls(TOOLS, name, parallel=False)).text)
    assert call["name"] == name
    check(call)


def marked(folder: Path, tokenizer: Tokenizer, exported: Path, *, special: bool) -> Tokenizer:
    """The sample's tokenizer with Qwen3's tags as tokens, declared special or not."""
    path = folder / "tokenizer.json"
    theirs = tokenizers.Tokenizer.from_file(str(exported.parent / "tokenizer.json"))
    tags = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    theirs.add_tokens(
        [tokenizers.AddedToken(tag, special=special, normalized=False) for tag in tags]
    )
    theirs.save(str(path))
    return Tokenizer(path, tokenizer.files)


@pytest.mark.parametrize("special", [False, True])
def test_tags_are_the_vocabulary_s_own_tokens_where_it_has_them(
    tmp_path: Path, llm: LLM, exported: Path, special: bool
) -> None:
    tokenizer = marked(tmp_path, llm.tokenizer, exported, special=special)
    grammars = Grammars(tokenizer, len(tokenizer) + 60)  # more logits than tokens
    for seed in range(3):
        tokens = walk(grammars.tool_calls(TOOLS, "get", parallel=False), tokenizer, seed)
        (call,) = calls(tokenizer.decode(tokens))
        assert call["name"] == "get"
        assert tokenizer.token(tokens[0]) == "<tool_call>"
        assert tokenizer.token(tokens[-1]) == "</tool_call>"
    grammars.close()


def text_allowed(mask: Mask, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text may be written, and nothing but an end may follow it."""
    tokens = tokenizer.encode(text, add_bos=False)
    for i, token in enumerate(tokens):
        allowed = mask(tokens[:i])
        assert allowed is not None
        if not allowed[token]:
            return False
    allowed = mask(tokens)
    assert allowed is not None
    return set(np.flatnonzero(allowed)) == set(tokenizer.files.eos)


@pytest.mark.parametrize(
    ("thinking", "text", "allowed"),
    [
        ("never", "yes", True),
        ("never", "<think>\nHm.\n</think>\n\nyes", False),
        ("may", "yes", True),
        ("may", "<think>\nHm, 1 < 2 </b>.\n</think>\n\nyes", True),
        ("may", "<think>\nHm.</think>yes", True),
        ("may", "Hm.\n</think>\n\nyes", False),
        ("may", "<think>\nHm.\n</think>\n\nHm", False),
        ("open", "Hm.\n</think>\n\nyes", True),
        ("open", "\n</think>yes", True),
        ("open", "yes", False),
    ],
)
def test_thoughts_may_come_before_the_answer(
    llm: LLM, grammars: Grammars, thinking: Thinking, text: str, allowed: bool
) -> None:
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for mask, yes in [
        (grammars.regex("yes|no", thinking=thinking), "yes"),
        (grammars.json_schema({"type": "boolean"}, thinking=thinking), "true"),
        (grammars.tool_calls(TOOLS, "now", parallel=False, thinking=thinking), call),
    ]:
        assert text_allowed(mask, llm.tokenizer, text.replace("yes", yes)) == allowed


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (False, "[json_schema] got False -> an object: a JSON schema"),
        ([1], "[json_schema] got [1] -> an object: a JSON schema"),
        ({"type": "objekt"}, "[json_schema] Invalid type: objekt"),
        ({"not": {}}, '[json_schema] Unimplemented keys: ["not"]'),
        ({"const": float("inf")}, "[json_schema] is no JSON: Out of range"),
        ({"const": {1}}, "[json_schema] is no JSON: Object of type set"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"minimum": 3, "maximum": 2, "type": "integer"}, "[json_schema] Unsatisfiable schema"),
        ({"enum": ["x" * 300_000]}, "[json_schema] 300,"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_one_clear_line(
    grammars: Grammars, schema: Any, message: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        grammars.json_schema(schema)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(a", "[regex] unclosed group"), ("(?=a)b", "[regex] look-around"),
     (r"(a)\1", "[regex] backreferences are not supported"), ("[z-a]", "[regex] ")],
)  # fmt: skip
def test_a_pattern_that_does_not_work_is_one_clear_line(
    grammars: Grammars, pattern: str, message: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        grammars.regex(pattern)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tools", "name", "message"),
    [
        ([], None, "[tools] got none -> at least one to call"),
        (TOOLS[:2], "got", '[tools] got \'got\' -> one of "get_weather", "get"'),
        ([{}], None, '[tools] 0 -> {"type": "function"'),
        ([tool("")], None, "[tools] 0 -> "),
        ([tool("f", {"type": "string"})], None, '[tool "f"] parameters -> a schema of "type"'),
        ([tool("f", [])], None, '[tool "f"] parameters -> a schema of "type"'),
        ([TOOLS[0], tool("f", {"not": {}})], None, '[tool "f"] Unimplemented keys: ["not"]'),
    ],
)
def test_a_tool_that_cannot_be_called_is_named(
    grammars: Grammars, tools: list[dict[str, Any]], name: str | None, message: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        grammars.tool_calls(tools, name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_text_that_the_tokenizer_would_change_is_written_as_asked(
    llm: LLM, grammars: Grammars
) -> None:
    # Decomposed accents, which the tokenizer composes, and the spelling of an end token.
    text = "e\u0301te\u0301 <|im_end|> o\u0308"
    assert json.loads(answer(llm, grammars.json_schema({"const": text})).text) == text


def test_white_space_does_not_go_on_for_ever(llm: LLM, grammars: Grammars) -> None:
    mask = grammars.json_schema({"type": "array", "maxItems": 0})
    (space,) = llm.tokenizer.encode(" ", add_bos=False)
    (bracket,) = llm.tokenizer.encode("[", add_bos=False)
    first, second = mask([bracket])[space], mask([bracket, space])[space]
    assert (first, second) == (True, False)


def test_after_its_end_only_end_tokens_follow(llm: LLM, grammars: Grammars) -> None:
    mask = grammars.regex("yes")
    completion = llm.generate(
        PROMPT, SamplingParams(mask=mask, ignore_eos=True, max_tokens=8, temperature=1.0, seed=1)
    )[0]
    assert completion.text == "yes"
    assert set(completion.token_ids[-5:]) <= set(llm.tokenizer.files.eos)


def test_masks_of_one_grammar_know_nothing_of_each_other(llm: LLM, grammars: Grammars) -> None:
    params = [
        SamplingParams(
            mask=grammars.json_schema({"type": "string", "minLength": 5, "maxLength": 40}),
            temperature=1.0, seed=seed, max_tokens=None,
        )
        for seed in range(6)
    ]  # fmt: skip
    together = llm.generate([PROMPT] * 6, params)
    assert len({completion.text for completion in together}) == 6
    for completion in together:
        assert 5 <= len(json.loads(completion.text)) <= 40


def test_a_mask_that_was_used_is_refused_for_another_request(llm: LLM, grammars: Grammars) -> None:
    mask = grammars.regex("(yes|no){3}")
    answer(llm, mask)
    with pytest.raises(GrammarError, match=r"-> one mask for each request"):
        answer(llm, mask)


def test_a_token_against_the_grammar_fails_the_mask_alone(llm: LLM, grammars: Grammars) -> None:
    other, mask = grammars.regex("yes"), grammars.regex("yes")
    with pytest.raises(GrammarError, match=r"^\[regex\] .*\(after 1 tokens\)$"):
        mask(llm.tokenizer.encode("x", add_bos=False))
    assert answer(llm, other).text == "yes"


def test_a_grammar_that_meets_its_limit_fails_its_own_request_alone(
    llm: LLM, grammars: Grammars
) -> None:
    # After its first brace, each of these objects may go on in several ways.
    objects = [{"type": "object", "properties": {f"p{i}": {}}} for i in range(600)]
    greedy = llm.stream(PROMPT, SamplingParams(max_tokens=12))
    failing = llm.stream(PROMPT, SamplingParams(mask=grammars.json_schema({"anyOf": objects})))
    with pytest.raises(GrammarError, match=r"^\[json_schema\] .*items"):
        failing.finish()
    assert greedy.finish().text == llm.generate(PROMPT, SamplingParams(max_tokens=12))[0].text


EVIL: dict[str, dict[str, Any]] = {
    "patterns that must all match": {
        "type": "string",
        "allOf": [{"pattern": f"(a|b)*{'ab'[i % 2]}(a|b){{{i}}}"} for i in range(100)],
    },
    "a multiple of large primes": {
        "allOf": [{"type": "integer", "multipleOf": prime} for prime in (9973, 9967, 9949, 9941)]
    },
    "a chain of definitions": {
        "$ref": "#/$defs/0",
        "$defs": {
            **{str(i): {"items": {"$ref": f"#/$defs/{i + 1}"}, "type": "array"}
               for i in range(4000)},
            "4000": {},
        },
    },
    "patterns of names that must not meet": {
        "type": "object",
        "patternProperties": {f"^{i}x": {"type": "string"} for i in range(3000)},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", EVIL)
def test_a_schema_that_would_end_the_process_is_refused(
    llm: LLM, grammars: Grammars, kind: str
) -> None:
    with pytest.raises(GrammarError, match=r"^\[json_schema\] takes .* to compile -> a simpler"):
        grammars.json_schema(EVIL[kind])
    assert answer(llm, grammars.regex("yes")).text == "yes"


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}]}])
def test_a_schema_that_is_nothing_but_itself_is_refused_in_words(
    grammars: Grammars, schema: dict[str, Any]
) -> None:
    with pytest.raises(GrammarError, match=r"^\[json_schema\] no text can match it \(") as error:
        grammars.json_schema(schema)
    assert "NoExtension" not in str(error.value)
    with pytest.raises(GrammarError, match=r"^\[regex\] no text can match it \("):
        grammars.regex("[a&&b]")


TEXTS = ["a.b", "(c)", "two words", "", "a\nb", "\t|", "é\x7f/\\"]


def test_an_answer_is_one_of_several_texts(llm: LLM, grammars: Grammars) -> None:
    for text in TEXTS:
        mask = grammars.choice([text])
        assert answer(llm, mask).text == text
    assert answer(llm, grammars.choice(TEXTS)).text in TEXTS


def test_too_many_texts_are_called_what_they_are(grammars: Grammars) -> None:
    with pytest.raises(GrammarError, match=r"^\[choice\] 3\d\d,\d+ characters -> at most"):
        grammars.choice(["x" * 1000] * 300)


@pytest.mark.parametrize("name", ["a\x7fb", "a\x01\x85\u2028b", 'a"\\b'])
def test_a_tool_may_be_called_anything(llm: LLM, grammars: Grammars, name: str) -> None:
    tool = {"type": "function", "function": {"name": name}}
    text = answer(llm, grammars.tool_calls([tool], parallel=False)).text
    call = text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert json.loads(call) == {"name": name, "arguments": {}}


def test_a_schema_nested_beyond_python_s_stack_is_refused(grammars: Grammars) -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(GrammarError, match="nested too deeply"):
        grammars.json_schema(schema)


def test_a_chain_of_definitions_that_a_person_might_write_works(grammars: Grammars) -> None:
    chain = {str(i): {"items": {"$ref": f"#/$defs/{i + 1}"}, "type": "array"} for i in range(300)}
    grammars.json_schema({"$ref": "#/$defs/0", "$defs": {**chain, "300": {}}})


def test_other_threads_run_while_a_mask_is_made(grammars: Grammars) -> None:
    schema = {"anyOf": [{"type": "object", "properties": {f"p{i}": {}}} for i in range(1500)]}
    grammars.json_schema(schema)  # its trial, in another process, is over
    turns, end = 0, time.monotonic() + 60
    while turns <= 100:  # where others have the processor, one mask may leave no time for them
        assert time.monotonic() < end
        thread, turns = threading.Thread(target=grammars.json_schema, args=[schema]), 0
        thread.start()
        while thread.is_alive():
            turns += 1
            time.sleep(0)


def test_without_llguidance_the_remedy_is_told(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(GrammarError, match=r"pip install '\.\[serve\]' in ferrum's folder"):
        grammars.json_object()


def test_a_model_without_an_end_token_is_refused(llm: LLM, exported: Path) -> None:
    files = TokenizerFiles(**{**llm.tokenizer.files.model_dump(), "eos": []})
    tokenizer = Tokenizer(exported.parent / "tokenizer.json", files)
    grammars = Grammars(tokenizer, llm.session.vocabulary)
    with pytest.raises(GrammarError, match="no end token"):
        grammars.regex("yes")
    grammars.close()


def test_masks_go_on_when_their_maker_was_closed(llm: LLM) -> None:
    grammars = Grammars(llm.tokenizer, llm.session.vocabulary)
    mask = grammars.regex("yes")
    grammars.close()
    assert answer(llm, mask).text == "yes"
    assert answer(llm, grammars.regex("no")).text == "no"  # and it can start once more
    grammars.close()
