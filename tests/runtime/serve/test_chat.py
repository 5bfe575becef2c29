"""/v1/chat/completions, asked by OpenAI's own client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.protocol.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
)

if TYPE_CHECKING:
    from conftest import Api

MESSAGES: Any = [{"role": "user", "content": "def fibonacci(n):"}]
GREEDY: Any = {"model": "tinycode", "messages": MESSAGES, "temperature": 0, "max_tokens": 24}
DRAWN: Any = {"model": "tinycode", "messages": MESSAGES, "max_tokens": 24}


def asked(api: Api, **changes: Any) -> Any:
    return api.client.chat.completions.create(**{**GREEDY, **changes})


def text(api: Api, **changes: Any) -> str:
    return asked(api, **changes).choices[0].message.content


def locally(api: Api, **params: Any) -> str:
    """What the model says without a server."""
    return api.service.llm.chat(MESSAGES, SamplingParams(**{"max_tokens": 24, **params})).text


def test_an_answer_is_what_the_model_says(api: Api) -> None:
    answer = asked(api)
    (choice,) = answer.choices
    assert choice.message.content == locally(api)
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "length")
    assert (answer.object, answer.model) == ("chat.completion", "tinycode")
    assert answer.id.startswith("chatcmpl-")


def test_every_field_of_an_answer_is_described(api: Api) -> None:
    body = {**GREEDY, "logprobs": True, "top_logprobs": 2, "n": 2}
    ChatCompletion.model_validate_json(api.post("/v1/chat/completions", body).content)


def test_a_stream_has_the_same_text(api: Api) -> None:
    chunks = list(asked(api, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == text(api)
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_every_field_of_an_event_is_described(api: Api) -> None:
    body = {**GREEDY, "stream": True, "logprobs": True, "stream_options": {"include_usage": True}}
    *events, done, rest = api.post("/v1/chat/completions", body).text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    for event in events:
        ChatCompletionChunk.model_validate_json(event.removeprefix("data: "))


def test_a_stream_that_asks_for_usage_gets_it_in_an_event_of_its_own(api: Api) -> None:
    *chunks, last = asked(api, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == asked(api).usage.model_copy(
        update={"prompt_tokens_details": last.usage.prompt_tokens_details}
    )
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_a_stream_has_its_usage_with_the_last_finish_reason(api: Api) -> None:
    *chunks, last = asked(api, stream=True, n=2)
    assert last.choices[0].finish_reason == "length"
    assert last.usage.completion_tokens == 48
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_that_wants_no_usage_has_none(api: Api) -> None:
    chunks = asked(api, stream=True, stream_options={"include_usage": False})
    assert all(chunk.usage is None for chunk in chunks)


def test_choice_i_draws_with_the_seed_plus_i(api: Api) -> None:
    three = api.client.chat.completions.create(**DRAWN, n=3, seed=7)
    alone = [
        api.client.chat.completions.create(**DRAWN, seed=7 + i).choices[0].message.content
        for i in range(3)
    ]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert [choice.message.content for choice in three.choices] == alone
    assert len(set(alone)) == 3
    assert alone[1] == locally(api, temperature=1.0, seed=8)


def test_choices_of_a_stream_are_told_apart_by_their_index(api: Api) -> None:
    whole = api.client.chat.completions.create(**DRAWN, n=3, seed=7)
    texts = ["", "", ""]
    for chunk in api.client.chat.completions.create(**DRAWN, n=3, seed=7, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_a_prompt_counts_once_for_all_choices(api: Api) -> None:
    one, three = asked(api).usage, asked(api, n=3).usage
    assert three.prompt_tokens == one.prompt_tokens
    assert three.completion_tokens == 3 * one.completion_tokens == 72
    assert three.total_tokens == three.prompt_tokens + 72


def test_a_negative_seed_is_a_seed(api: Api) -> None:
    first, again, other = (
        api.client.chat.completions.create(**DRAWN, seed=seed).choices[0].message.content
        for seed in (-5, -5, -6)
    )
    assert first == again != other


def test_minus_one_is_no_seed(api: Api) -> None:
    """As for llama.cpp and vLLM, whose clients send it."""
    texts = [
        api.client.chat.completions.create(**DRAWN, seed=-1, n=2).choices[i].message.content
        for i in (0, 1, 0, 1)
    ]
    assert len(set(texts)) == 4


def test_top_p_zero_is_greedy(api: Api) -> None:
    assert text(api, temperature=1, top_p=0) == text(api)


@pytest.mark.parametrize("several", [False, True])
def test_a_text_ends_before_a_stop_string(api: Api, several: bool) -> None:
    whole = text(api)
    stop = whole[5:8]
    choice = asked(api, stop=["no such text", stop] if several else stop).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_tokens_come_with_their_log_probabilities(api: Api) -> None:
    answer = asked(api, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
    for entry in entries:
        assert bytes(entry.bytes).decode() == entry.token
        assert len(entry.top_logprobs) == 3
        # The likeliest token is what greedy decoding takes.
        assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (
            entry.token,
            entry.logprob,
        )
        assert entry.logprob <= 0.0


def test_a_streams_log_probabilities_are_those_of_the_whole_answer(api: Api) -> None:
    whole = asked(api, logprobs=True, top_logprobs=1).choices[0].logprobs.content
    chunks = list(asked(api, logprobs=True, top_logprobs=1, stream=True))
    parts = [c.choices[0].logprobs.content for c in chunks if c.choices[0].logprobs is not None]
    assert [entry for part in parts for entry in part] == whole


def test_a_second_turn_finds_the_first_in_the_cache(api: Api) -> None:
    history = [{"role": "user", "content": "class Node:\n    " + "value = 1\n    " * 40}]
    first = asked(api, messages=history)
    history += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "and then?"},
    ]
    second = asked(api, messages=history)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens - 32
    assert cached < second.usage.prompt_tokens


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.7),
        ("top_p", 0.5),
        ("presence_penalty", 1.5),
        ("frequency_penalty", 1.5),
    ],
)
def test_openais_sampling_fields_do_what_they_do_without_a_server(
    api: Api, field: str, value: float
) -> None:
    given = {"temperature": 1.0, "seed": 3, field: value}
    assert text(api, **given) == locally(api, **given)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 2),
        ("min_p", 0.3),
        ("repetition_penalty", 1.5),
        ("stop_token_ids", [11, 12, 13, 14, 15, 16, 17]),
        ("ignore_eos", True),
    ],
)
def test_extensions_do_what_they_do_without_a_server(api: Api, field: str, value: Any) -> None:
    given = {"temperature": 1.0, "seed": 3}
    assert text(api, **given, extra_body={field: value}) == locally(api, **given, **{field: value})


def test_a_temperature_near_zero_is_greedy(api: Api) -> None:
    assert text(api, temperature=1e-300) == text(api)


def test_the_default_temperature_is_one(api: Api) -> None:
    drawn = api.client.chat.completions.create(**DRAWN, seed=3).choices[0].message.content
    assert drawn == locally(api, temperature=1.0, seed=3)


def test_a_priority_is_taken(api: Api) -> None:
    assert text(api, extra_body={"priority": -1}) == text(api)


def test_max_completion_tokens_is_the_newer_name(api: Api) -> None:
    answer = api.client.chat.completions.create(
        model="tinycode", messages=MESSAGES, temperature=0, max_completion_tokens=5
    )
    assert answer.usage.completion_tokens == 5


def test_without_a_limit_the_context_is_one(api: Api) -> None:
    answer = api.client.chat.completions.create(
        model="tinycode", messages=MESSAGES, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage.total_tokens == 1024
    assert answer.choices[0].finish_reason == "length"


def test_parts_of_text_are_one_text(api: Api) -> None:
    parts = [{"type": "text", "text": "def fib"}, {"type": "text", "text": "onacci(n):"}]
    assert text(api, messages=[{"role": "user", "content": parts}]) == text(api)


def test_a_developer_is_a_system(api: Api) -> None:
    system, developer = (
        text(api, messages=[{"role": role, "content": "Short code."}, *MESSAGES])
        for role in ("system", "developer")
    )
    assert system == developer


def test_fields_without_effect_have_none(api: Api) -> None:
    part = {"type": "text", "text": MESSAGES[0]["content"]}
    part["prompt_cache_breakpoint"] = {"mode": "explicit"}
    same = text(
        api,
        messages=[{"role": "user", "content": [part]}],
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        logit_bias={},
        functions=[],
        function_call="none",
        modalities=["text"],
        moderation={"model": "omni-moderation-latest"},
        prediction={"type": "content", "content": "def"},
        prompt_cache_key="y",
        prompt_cache_options={"mode": "implicit", "ttl": "30m"},
        prompt_cache_retention="24h",
        safety_identifier="x",
        verbosity="low",
    )
    assert same == text(api)


def test_an_answer_can_be_sent_back_as_it_came(api: Api) -> None:
    message = asked(api).choices[0].message.model_dump()
    assert text(api, messages=[*MESSAGES, message, *MESSAGES])


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "clown", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": "a " * 2000}]}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 17}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_completion_tokens": 3}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"extra_body": {"stop_token_ids": [1, 4096]}}, "stop_token_ids[1]"),
        (
            {"extra_body": {"chat_template_kwargs": {"messages": []}}},
            "chat_template_kwargs.messages",
        ),
    ],
)
def test_a_refusal_names_the_field(api: Api, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        asked(api, **changes)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_a_model_that_is_not_served_is_not_found(api: Api) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        asked(api, model="gpt-4o")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_prompt_longer_than_the_context_says_so(api: Api) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        asked(api, messages=[{"role": "user", "content": "a " * 2000}])
    assert caught.value.code == "context_length_exceeded"


# --- thoughts and tools

ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [3, 4]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}


def test_tools_are_part_of_the_prompt(thinking_api: Api) -> None:
    without = asked(thinking_api).usage.prompt_tokens
    told = asked(thinking_api, tools=[ADD]).usage.prompt_tokens
    assert told > without + 30
    assert asked(thinking_api, tools=[ADD], tool_choice="none").usage.prompt_tokens == without


def test_a_required_call_is_a_call(thinking_api: Api) -> None:
    answer = asked(
        thinking_api, tools=[NOW, ADD], tool_choice="required", parallel_tool_calls=False,
        max_tokens=200,
    )  # fmt: skip
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id
    assert call.function.name in ("add", "now")


def forced(api: Api, **changes: Any) -> Any:
    choice = {"type": "function", "function": {"name": "add"}}
    return asked(
        api, tools=[NOW, ADD], tool_choice=choice, max_tokens=200, parallel_tool_calls=False,
        **changes,
    )  # fmt: skip


def test_a_forced_call_is_of_that_tool_and_keeps_to_its_schema(thinking_api: Api) -> None:
    (call,) = forced(thinking_api).choices[0].message.tool_calls
    assert call.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert arguments["a"] in (1, 2)
    assert arguments["b"] in (3, 4)


def test_a_call_streams_as_name_and_pieces_of_arguments(thinking_api: Api) -> None:
    (whole,) = forced(thinking_api).choices[0].message.tool_calls
    chunks = list(forced(thinking_api, stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (calls[0].index, calls[0].type, calls[0].function.name) == (0, "function", "add")
    assert calls[0].id
    assert all(call.id is None and call.function.name is None for call in calls[1:])
    assert "".join(call.function.arguments for call in calls) == whole.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_model_may_call_several_tools_at_once(thinking_api: Api) -> None:
    """As this one would for ever: the last call is cut off by the limit."""
    answer = asked(thinking_api, tools=[NOW, ADD], tool_choice="required", max_tokens=100)
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    calls = choice.message.tool_calls
    assert len(calls) > 1
    assert len({call.id for call in calls}) == len(calls)
    for call in calls[:-1]:
        json.loads(call.function.arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_that_is_cut_off_is_never_content(thinking_api: Api, stream: bool) -> None:
    for most in range(1, 64):
        answer = asked(
            thinking_api, tools=[NOW, ADD], tool_choice="required", max_tokens=most, stream=stream
        )
        if stream:
            chunks = list(answer)
            assert not any(chunk.choices[0].delta.content for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            assert answer.choices[0].message.content is None
            reason = answer.choices[0].finish_reason
        assert reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_the_beginning_of_any_call_that_is_cut_off_is_dropped(
    thinking_api: Api, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Where the model might as well have answered in words, as a mask has it do here."""
    calls = thinking_api.service.grammars.lark(
        'start: "Hi\\n<tool_call>\\n{\\"name\\": \\"now\\", \\"arguments\\": " /[^{}]{100}/'
    )
    usual = ChatRequest.params
    monkeypatch.setattr(
        ChatRequest, "params",
        lambda *a, **o: usual(*a, **o).model_copy(update={"mask": calls}),
    )  # fmt: skip
    answer = asked(thinking_api, tools=[NOW], stream=stream, max_tokens=20)
    if stream:
        content = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        content = answer.choices[0].message.content
    assert content == "Hi"


def test_openais_stream_helper_puts_a_call_together(thinking_api: Api) -> None:
    with thinking_api.client.chat.completions.stream(
        model="tinycode", messages=MESSAGES, temperature=0, tools=[NOW, ADD],
        tool_choice="required", parallel_tool_calls=False, max_tokens=200,
    ) as stream:  # fmt: skip
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls
    assert message.tool_calls[0].function.name in ("add", "now")


def test_calls_and_their_results_go_back_to_the_model(thinking_api: Api) -> None:
    message = forced(thinking_api).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "4"}
    history = [*MESSAGES, message.model_dump(exclude_none=True), result]
    answer = asked(thinking_api, messages=history, tools=[ADD])
    shown = thinking_api.post(
        "/tokenize", {"messages": history, "tools": [ADD], "return_token_strs": True}
    ).json()
    assert answer.usage.prompt_tokens == shown["count"]
    prompt = "".join(shown["token_strs"])
    call = f'{{"name": "add", "arguments": {message.tool_calls[0].function.arguments}}}'
    assert f"<tool_call>\n{call}\n</tool_call><|im_end|>\n<|im_start|>tool\n4<|im_end|>" in prompt


def test_a_model_may_answer_without_a_call(thinking_api: Api) -> None:
    choice = asked(thinking_api, tools=[ADD]).choices[0]
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_reasoning_content(thinking_api: Api, stream: bool) -> None:
    body = {
        "chat_template_kwargs": {"enable_thinking": False},
        "structured_outputs": {"regex": "<think>one</think>two"},
    }
    answer = asked(thinking_api, extra_body=body, max_tokens=50, stream=stream)
    if stream:
        deltas = [chunk.choices[0].delta for chunk in answer]
        parts = [(getattr(d, "reasoning_content", None), d.content) for d in deltas]
        thoughts, content = ("".join(p or "" for p in side) for side in zip(*parts, strict=True))
    else:
        message = answer.choices[0].message
        thoughts, content = message.reasoning_content, message.content
    assert (thoughts, content) == ("one", "two")


def test_thoughts_that_the_template_begins_are_reasoning_content(thinking_api: Api) -> None:
    message = asked(
        thinking_api, extra_body={"chat_template_kwargs": {"open_thoughts": True}}
    ).choices[0].message  # fmt: skip
    assert message.reasoning_content
    assert message.content == ""


def test_enable_thinking_reaches_the_template(thinking_api: Api) -> None:
    count = asked(thinking_api).usage.prompt_tokens
    kwargs = {"chat_template_kwargs": {"enable_thinking": False}}
    assert asked(thinking_api, extra_body=kwargs).usage.prompt_tokens > count
    assert asked(thinking_api, reasoning_effort="none").usage.prompt_tokens > count


@pytest.mark.parametrize(
    "changes",
    [
        {"tool_choice": {"type": "function", "function": {"name": "subtract"}}},
        {"tool_choice": "perhaps"},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": ""}}]},
        {
            "tool_choice": "required",
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
            ],
        },
    ],
)
def test_tools_that_make_no_sense_are_refused(thinking_api: Api, changes: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        asked(thinking_api, **{"tools": [ADD], **changes})


# --- structured outputs


def test_a_json_schema_is_kept_to(api: Api) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}, "size": {"enum": [1, 2, 3]}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    choice = asked(api, response_format=wanted, temperature=1, seed=1, max_tokens=100).choices[0]
    assert choice.finish_reason == "stop"
    thing = json.loads(choice.message.content)
    assert set(thing) == {"name", "size"}
    assert len(thing["name"]) <= 5
    assert thing["size"] in (1, 2, 3)


def test_each_choice_keeps_to_the_schema_by_itself(api: Api) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 6}
    answer = asked(
        api, n=4, seed=1, temperature=1, max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )  # fmt: skip
    for choice in answer.choices:
        assert set(json.loads(choice.message.content)) <= {1, 2}


def test_a_json_object_is_one(api: Api) -> None:
    choice = asked(api, response_format={"type": "json_object"}, max_tokens=200).choices[0]
    text = choice.message.content
    assert text.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        ({"regex": "(ab|cd)ef"}, {"abef", "cdef"}),
        ({"choice": ["a.b", "(c)", "two words"]}, {"a.b", "(c)", "two words"}),
        ({"json": {"const": 7}}, {"7"}),
    ],
)
def test_further_structures_are_kept_to(
    api: Api, wanted: dict[str, Any], allowed: set[str]
) -> None:
    texts = asked(
        api, n=3, temperature=1, seed=2, extra_body={"structured_outputs": wanted}
    ).choices  # fmt: skip
    assert {choice.message.content for choice in texts} <= allowed


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, "structured_outputs"),
        ({"extra_body": {"structured_outputs": {}}}, "structured_outputs"),
        (
            {"extra_body": {"structured_outputs": {"regex": "a", "choice": ["b"]}}},
            "structured_outputs",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "nothing"}},
                }
            },
            "response_format",
        ),
        (
            {
                "response_format": {"type": "json_object"},
                "extra_body": {"structured_outputs": {"regex": "a"}},
            },
            "structured_outputs",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_structures_that_make_no_sense_are_refused(
    api: Api, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        asked(api, **changes)
    assert caught.value.param == param


def test_openais_parse_helper_gets_its_object(api: Api) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Thing(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        flag: bool
        parts: list[bool]

    choice = api.client.chat.completions.parse(
        model="tinycode", messages=MESSAGES, response_format=Thing, max_tokens=300, seed=1
    ).choices[0]
    assert isinstance(choice.message.parsed, Thing)
