"""/v1/completions, asked by OpenAI's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.protocol.completions import Completion, CompletionChunk

if TYPE_CHECKING:
    from conftest import Api

PROMPT = "def fibonacci(n):"


def asked(api: Api, prompt: Any = PROMPT, **changes: Any) -> Any:
    given = {"temperature": 0, "max_tokens": 24, **changes}
    return api.client.completions.create(model="tinycode", prompt=prompt, **given)


def locally(api: Api, prompt: Any = PROMPT, **params: Any) -> str:
    """What the model says without a server."""
    return api.service.llm.generate(prompt, SamplingParams(**{"max_tokens": 24, **params}))[0].text


def test_a_text_goes_on_as_without_a_server(api: Api) -> None:
    answer = asked(api)
    (choice,) = answer.choices
    assert choice.text == locally(api)
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert (answer.object, answer.model) == ("text_completion", "tinycode")
    assert answer.usage.prompt_tokens == len(api.service.llm.tokenizer.encode(PROMPT))
    assert answer.usage.completion_tokens == 24


def test_every_field_of_an_answer_is_described(api: Api) -> None:
    body = {"prompt": ["a", "b"], "n": 2, "logprobs": 2}
    Completion.model_validate_json(api.post("/v1/completions", body).content)


def test_sixteen_tokens_are_generated_unless_more_are_wanted(api: Api) -> None:
    answer = api.client.completions.create(
        model="tinycode", prompt=PROMPT, extra_body={"ignore_eos": True}
    )
    assert answer.usage.completion_tokens == 16


def test_a_prompt_may_be_tokens_and_several_prompts_are_answered_in_their_order(api: Api) -> None:
    texts = [PROMPT, "class Node:"]
    ids = [api.service.llm.tokenizer.encode(text) for text in texts]
    alone = [locally(api, text) for text in texts]
    for prompts in (texts, ids):
        answer = asked(api, prompts)
        assert [choice.text for choice in answer.choices] == alone
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert asked(api, ids[0]).choices[0].text == alone[0]


def test_choices_of_a_prompt_lie_together(api: Api) -> None:
    answer = asked(api, [PROMPT, "class Node:"], n=2, temperature=1, seed=5)
    alone = [
        locally(api, prompt, temperature=1.0, seed=seed)
        for prompt in (PROMPT, "class Node:")
        for seed in (5, 6)
    ]
    assert [choice.text for choice in answer.choices] == alone


@pytest.mark.parametrize("options", [{}, {"n": 3}])
def test_a_stream_has_the_same_texts(api: Api, options: dict[str, Any]) -> None:
    given = {"temperature": 1, "seed": 4, **options}
    whole = asked(api, **given)
    texts, reasons = [""] * len(whole.choices), [""] * len(whole.choices)
    for chunk in asked(api, stream=True, **given):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        reasons[choice.index] += choice.finish_reason or ""
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_every_field_of_an_event_is_described(api: Api) -> None:
    body = {"prompt": "a", "stream": True, "logprobs": 1}
    *events, done, _ = api.post("/v1/completions", body).text.split("\n\n")
    assert done == "data: [DONE]"
    for event in events:
        CompletionChunk.model_validate_json(event.removeprefix("data: "))


def test_a_streams_usage_is_that_of_the_whole_answer(api: Api) -> None:
    usage = asked(api).usage
    *_, by_itself = asked(api, stream=True)
    *_, wanted = asked(api, stream=True, stream_options={"include_usage": True})
    for chunk in (by_itself, wanted):
        assert chunk.usage.prompt_tokens == usage.prompt_tokens
        assert chunk.usage.completion_tokens == usage.completion_tokens
    assert by_itself.choices
    assert not wanted.choices


def test_an_equal_beginning_is_found_in_the_cache(api: Api) -> None:
    prompt = "import os\nimport sys\n" + "x = 1\n" * 60
    first, second = asked(api, prompt), asked(api, prompt)
    tokens = first.usage.prompt_tokens
    assert second.usage.prompt_tokens_details.cached_tokens == (tokens - 1) // 32 * 32


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_tokens", [False, True])
def test_an_echo_begins_with_the_prompt(api: Api, stream: bool, as_tokens: bool) -> None:
    prompt = api.service.llm.tokenizer.encode(PROMPT) if as_tokens else PROMPT
    answer = asked(api, prompt, echo=True, stream=stream)
    chunks = list(answer) if stream else [answer]
    assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT + locally(api)


def test_tokens_come_with_their_log_probabilities(api: Api) -> None:
    answer = asked(api, logprobs=2)
    logprobs, text = answer.choices[0].logprobs, answer.choices[0].text
    assert len(logprobs.tokens) == answer.usage.completion_tokens
    assert "".join(logprobs.tokens) == text
    for token, value, top, offset in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset,
        strict=True,
    ):  # fmt: skip
        assert top[token] == value == max(top.values())
        assert len(top) == 2
        assert text[offset:].startswith(token)


def test_a_streams_log_probabilities_are_those_of_the_whole_answer(api: Api) -> None:
    whole = asked(api, logprobs=1).choices[0].logprobs
    parts = [chunk.choices[0].logprobs for chunk in asked(api, logprobs=1, stream=True)]
    for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [item for part in parts if part is not None for item in getattr(part, field)]
        assert joined == getattr(whole, field)


def test_zero_log_probabilities_are_those_of_the_tokens_alone(api: Api) -> None:
    logprobs = asked(api, logprobs=0).choices[0].logprobs
    assert [list(top) for top in logprobs.top_logprobs] == [[token] for token in logprobs.tokens]


def test_a_stop_string_ends_each_text(api: Api) -> None:
    text = locally(api)
    choice = asked(api, stop=[text[4:7]]).choices[0]
    assert choice.text == text[: text.index(text[4:7])]
    assert choice.finish_reason == "stop"


def test_a_structure_is_kept_to(api: Api) -> None:
    wanted = {"structured_outputs": {"regex": "[0-9]{3}"}}
    answer = asked(api, ["a", "b"], n=2, extra_body=wanted)
    assert all(len(c.text) == 3 and c.text.isdecimal() for c in answer.choices)
    wanted = {"response_format": {"type": "json_object"}}
    assert asked(api, extra_body=wanted).choices[0].text.startswith("{")


@pytest.mark.parametrize(
    ("prompt", "changes", "param"),
    [
        ("", {}, "prompt"),
        ([], {}, "prompt"),
        ([1, -1], {}, "prompt[1]"),
        ([1, 4096], {}, "prompt"),
        ([[1], []], {}, "prompt[1]"),
        (["a", 1], {}, "prompt[1]"),
        ("a " * 2000, {}, "prompt"),
        ("a", {"suffix": "b"}, "suffix"),
        ("a", {"best_of": 2}, "best_of"),
        ("a", {"echo": True, "logprobs": 1}, "logprobs"),
        ("a", {"logprobs": 21}, "logprobs"),
        ("a", {"max_tokens": 0}, "max_tokens"),
        (["a"] * 100, {"n": 16}, "prompt"),
        ("a", {"extra_body": {"messages": []}}, "messages"),
    ],
)
def test_a_refusal_names_the_field(
    api: Api, prompt: Any, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        asked(api, prompt, **changes)
    assert caught.value.param == param


def test_best_of_n_is_what_is_done_anyway(api: Api) -> None:
    assert len(asked(api, n=2, best_of=2).choices) == 2
