"""The front door: prompts in, texts out, alone or together, whole or piece by piece."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_export import CONTEXT, END, VOCABULARY, expected_logits, greedy

from ferrum.runtime.chat_template import ChatError
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingError, SamplingParams
from ferrum.runtime.session_errors import BadToken, ContextTooLong, NoTokens
from ferrum.runtime.settings import SettingsError

Open = Callable[..., LLM]
ENDLESS = {"ignore_eos": True}


def all_free(llm: LLM) -> bool:
    return llm.session.free_blocks() == llm.session.pool.blocks


def test_a_text_and_its_tokens_are_continued_alike(tiny_llm: Open) -> None:
    llm = tiny_llm()
    ids = llm.tokenizer.encode("the youth")
    text, tokens = llm.generate(["the youth", ids], SamplingParams(max_tokens=20, **ENDLESS))
    assert text.token_ids == tokens.token_ids == greedy(ids, 20)
    assert text.text == llm.tokenizer.decode(text.token_ids)
    assert (text.finish_reason, text.prompt_tokens) == ("length", len(ids))
    assert 0 < text.timings.first_token < text.timings.total


@pytest.mark.parametrize("prompt", ["abc", [1, 2, 3], (1, 2, 3), np.array([1, 2, 3])])
def test_one_prompt_gives_a_list_of_one(tiny_llm: Open, prompt: object) -> None:
    assert len(tiny_llm().generate(prompt, SamplingParams(max_tokens=2))) == 1  # type: ignore[arg-type]


def test_no_prompts_give_no_texts(tiny_llm: Open) -> None:
    assert tiny_llm().generate([]) == []


def test_each_prompt_may_have_its_own_parameters(tiny_llm: Open) -> None:
    llm = tiny_llm()
    params = [SamplingParams(max_tokens=n, **ENDLESS) for n in (3, 9)]
    results = llm.generate([[1, 2], [3]], params)
    assert [len(result.token_ids) for result in results] == [3, 9]
    with pytest.raises(ValueError, match="2 params for 3 prompts"):
        llm.generate([[1], [2], [3]], params)
    assert all_free(llm)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(data=st.data())
def test_a_text_does_not_depend_on_its_company(tiny_llm: Open, data: st.DataObject) -> None:
    llm = tiny_llm(
        max_sequences=data.draw(st.integers(1, 5)),
        step_tokens=data.draw(st.integers(5, 30)),
        kv_capacity=data.draw(st.integers(60, 200)),
    )
    token = st.integers(0, VOCABULARY - 1)
    prompts = data.draw(st.lists(st.lists(token, min_size=1, max_size=30), min_size=1, max_size=7))
    params = [
        SamplingParams(temperature=data.draw(st.sampled_from([0.0, 40.0])), seed=i,
                       max_tokens=data.draw(st.integers(1, 30)), **ENDLESS)
        for i in range(len(prompts))
    ]  # fmt: skip
    together = llm.generate(prompts, params)
    assert all_free(llm)
    for prompt, one, result in zip(prompts, params, together, strict=True):
        assert llm.generate(prompt, one)[0].token_ids == result.token_ids
        if one.temperature == 0:
            assert result.token_ids == greedy(prompt, len(result.token_ids))


def test_pieces_come_one_by_one_and_make_up_the_text(tiny_llm: Open) -> None:
    llm = tiny_llm()
    stream = llm.stream([1, 2, 3], SamplingParams(max_tokens=12, **ENDLESS))
    with pytest.raises(RuntimeError, match="not at its end"):
        _ = stream.completion
    pieces = list(stream)
    assert [piece.token for piece in pieces] == greedy([1, 2, 3], 12)
    assert [piece.finish_reason for piece in pieces] == [None] * 11 + ["length"]
    assert "".join(piece.text for piece in pieces) == stream.completion.text
    assert list(stream) == []
    assert stream.finish().token_ids == greedy([1, 2, 3], 12)


def test_streams_can_be_read_in_turns(tiny_llm: Open) -> None:
    llm = tiny_llm()
    prompts = [[1], [2, 3], [4, 5, 6]]
    streams = [llm.stream(prompt, SamplingParams(max_tokens=10, **ENDLESS)) for prompt in prompts]
    read: list[list[int]] = [[], [], []]
    for _ in range(10):
        for tokens, stream in zip(read, streams, strict=True):
            tokens.append(next(stream).token)
    assert read == [greedy(prompt, 10) for prompt in prompts]
    assert llm.clock.steps <= 12  # they shared their steps


def test_threads_share_a_model(tiny_llm: Open) -> None:
    llm = tiny_llm(max_sequences=3)
    results: dict[int, list[int]] = {}

    def work(i: int) -> None:
        stream = llm.stream([i, i + 1], SamplingParams(max_tokens=15, **ENDLESS))
        results[i] = [piece.token for piece in stream]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: greedy([i, i + 1], 15) for i in range(6)}
    assert all_free(llm)


def test_a_thread_that_waits_for_texts_lets_others_in_between_steps(tiny_llm: Open) -> None:
    llm = tiny_llm()
    begun = threading.Event()

    def slowly(tokens: Sequence[int]) -> None:
        begun.set()
        time.sleep(0.005)

    slow = SamplingParams(max_tokens=CONTEXT - 2, mask=slowly, **ENDLESS)
    done: list[list[int]] = []
    thread = threading.Thread(target=lambda: done.append(llm.generate([1, 2], slow)[0].token_ids))
    thread.start()
    begun.wait()
    assert llm.generate([3], SamplingParams(max_tokens=1, **ENDLESS))[0].token_ids == greedy([3], 1)
    assert done == []
    thread.join()
    assert done == [greedy([1, 2], CONTEXT - 2)]


@pytest.mark.parametrize("priority", ["high", None, 1.5])
def test_a_priority_that_is_no_integer_is_refused_where_it_is_given(
    tiny_llm: Open, priority: object
) -> None:
    llm = tiny_llm()
    with pytest.raises(TypeError, match=r"^\[priority\] got .* -> an integer$"):
        llm.stream([1], priority=priority)  # type: ignore[arg-type]
    assert llm.engine.idle


def test_settings_that_are_none_are_one_line(tiny_llm: Open) -> None:
    with pytest.raises(SettingsError, match=r"^\[settings\] got dict -> Settings, or keywords$"):
        LLM(tiny_llm().artifact.path, {"threads": 1})  # type: ignore[arg-type]


def test_streams_nobody_reads_do_not_pile_up(tiny_llm: Open) -> None:
    llm = tiny_llm()
    for _ in range(20):
        llm.stream([1, 2, 3])
        gc.collect()
    assert len(llm.engine.scheduler.waiting) <= 1


def test_a_closed_stream_gives_its_blocks_back(tiny_llm: Open) -> None:
    llm = tiny_llm()
    stream = llm.stream([1, 2, 3])
    first = next(stream)
    stream.close()
    assert all_free(llm)
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.token_ids == [first.token]
    assert list(stream) == []


def test_a_forgotten_stream_does_not_run_on(tiny_llm: Open) -> None:
    llm = tiny_llm()
    next(llm.stream([1, 2, 3], SamplingParams(max_tokens=None, **ENDLESS)))
    gc.collect()
    llm.generate([5], SamplingParams(max_tokens=1))
    assert all_free(llm)
    next(llm.stream([1, 2, 3], SamplingParams(max_tokens=None, **ENDLESS)))
    gc.collect()
    llm.score([5, 6])
    assert all_free(llm)


def ending_prompt() -> tuple[list[int], list[int]]:
    """A prompt that greedily runs into the end token, and its continuation up to there."""
    for first in range(VOCABULARY - 3):
        tokens = greedy([first], 40)
        if END in tokens[3:]:
            return [first], tokens[: tokens.index(END) + 1]
    raise AssertionError("no prompt of the tiny model ends")


def test_the_end_token_ends_the_text_and_is_not_shown(tiny_llm: Open) -> None:
    llm = tiny_llm()
    prompt, continuation = ending_prompt()
    result = llm.generate(prompt, SamplingParams(max_tokens=60))[0]
    assert result.token_ids == continuation
    assert (result.finish_reason, result.stop_reason) == ("stop", END)
    assert result.text == llm.tokenizer.decode(continuation[:-1])
    going_on = llm.generate(prompt, SamplingParams(max_tokens=60, ignore_eos=True))[0]
    assert going_on.token_ids == greedy(prompt, 60)


def test_a_stop_token_ends_the_text_and_is_not_shown(tiny_llm: Open) -> None:
    llm = tiny_llm()
    tokens = greedy([9], 10)
    stop = tokens[4]
    at = tokens.index(stop)
    result = llm.generate([9], SamplingParams(max_tokens=30, stop_token_ids=[stop]))[0]
    assert result.token_ids == tokens[: at + 1]
    assert (result.finish_reason, result.stop_reason) == ("stop", stop)
    assert result.text == llm.tokenizer.decode(tokens[:at])


def test_a_stop_string_across_tokens_ends_the_text_before_it(tiny_llm: Open) -> None:
    llm = tiny_llm()
    text = llm.generate([11], SamplingParams(max_tokens=30, **ENDLESS))[0].text
    stop = text[6:10]
    assert len(llm.tokenizer.encode(stop)) > 1
    params = SamplingParams(max_tokens=30, stop=stop, **ENDLESS)
    stream = llm.stream([11], params)
    shown = "".join(piece.text for piece in stream)
    assert shown == stream.completion.text == text[: text.index(stop)]
    assert (stream.completion.finish_reason, stream.completion.stop_reason) == ("stop", stop)


def test_text_held_back_for_a_stop_string_is_shown_at_the_end(tiny_llm: Open) -> None:
    llm = tiny_llm()
    text = llm.generate([11], SamplingParams(max_tokens=30, **ENDLESS))[0].text
    params = SamplingParams(max_tokens=30, stop=text[-3:] + "never", **ENDLESS)
    stream = llm.stream([11], params)
    *_, last = pieces = list(stream)
    assert last.text.endswith(text[-3:])
    assert "".join(piece.text for piece in pieces) == stream.completion.text == text


def test_a_stop_string_in_what_is_held_back_at_the_limit_stops_it(tiny_llm: Open) -> None:
    llm, half = tiny_llm(), "\ufffd"  # of a character whose other bytes did not come

    def text(tokens: int) -> str:
        return llm.generate([11], SamplingParams(max_tokens=tokens, **ENDLESS))[0].text

    count = next(n for n in range(1, 60) if half in text(n))
    params = SamplingParams(max_tokens=count, stop=half, **ENDLESS)
    found = llm.generate([11], params)[0]
    assert (found.finish_reason, found.stop_reason) == ("stop", half)
    assert found.text + half == text(count)


def test_a_text_ends_where_the_context_does(tiny_llm: Open) -> None:
    result = tiny_llm().generate([1] * 90, SamplingParams(max_tokens=None, **ENDLESS))[0]
    assert len(result.token_ids) == CONTEXT - 90
    assert result.finish_reason == "length"


def test_a_text_ends_where_the_caches_do(tiny_llm: Open) -> None:
    llm = tiny_llm(kv_capacity=20)
    result = llm.generate([1] * 10, SamplingParams(max_tokens=None, **ENDLESS))[0]
    assert result.token_ids == greedy([1] * 10, 10)
    assert result.finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "error", "sentence"),
    [
        ("", NoTokens, "no tokens"),
        ([1, VOCABULARY], BadToken, f"token id {VOCABULARY}"),
        ([-1], BadToken, "token id -1"),
        ([1] * CONTEXT, ContextTooLong, "96 tokens and 1 to come -> at most 96"),
    ],
)
def test_a_prompt_that_cannot_run_is_refused_and_takes_no_one_along(
    tiny_llm: Open, prompt: str | list[int], error: type[Exception], sentence: str
) -> None:
    llm = tiny_llm()
    with pytest.raises(error, match=sentence):
        llm.generate([[1, 2], prompt])
    assert all_free(llm)
    assert not llm.engine.scheduler.waiting


def test_logprobs_come_with_each_token(tiny_llm: Open) -> None:
    result = tiny_llm().generate([1, 2], SamplingParams(max_tokens=4, logprobs=3, **ENDLESS))[0]
    assert result.logprobs is not None
    tokens = [1, 2]
    for token, found in zip(result.token_ids, result.logprobs, strict=True):
        logits = expected_logits(tokens).astype(np.float64)
        exact = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert found.logprob == pytest.approx(exact[token], abs=1e-9)
        assert [t for t, _ in found.top] == np.argsort(-exact, kind="stable")[:3].tolist()
        tokens.append(token)


def test_a_failing_mask_fails_for_its_own_request_alone(tiny_llm: Open) -> None:
    llm = tiny_llm()

    def broken(generated: Sequence[int]) -> None:
        if len(generated) == 2:
            raise RuntimeError("the grammar is broken")

    good = llm.stream([1], SamplingParams(max_tokens=6, **ENDLESS))
    bad = llm.stream([2], SamplingParams(max_tokens=6, mask=broken, **ENDLESS))
    assert [piece.token for piece in good] == greedy([1], 6)
    assert [next(bad).token, next(bad).token] == greedy([2], 2)
    with pytest.raises(RuntimeError, match="grammar"):
        next(bad)
    with pytest.raises(RuntimeError, match="grammar"):
        bad.finish()
    nothing = SamplingParams(mask=lambda _: np.zeros(VOCABULARY, np.bool_))
    with pytest.raises(SamplingError, match="no token"):
        llm.generate([3], nothing)
    assert all_free(llm)


def test_ctrl_c_between_run_and_sampling_loses_no_token(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = tiny_llm()
    one = llm.stream([1, 2], SamplingParams(max_tokens=8, **ENDLESS))
    two = llm.stream([3], SamplingParams(max_tokens=8, **ENDLESS))
    next(one)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(llm.engine, "_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(one)
    monkeypatch.undo()
    assert one.finish().token_ids == greedy([1, 2], 8)
    assert two.finish().token_ids == greedy([3], 8)


def test_scores_are_the_log_probabilities_of_the_prompt(tiny_llm: Open) -> None:
    llm = tiny_llm(step_tokens=16)
    ids = [i * 5 % VOCABULARY for i in range(40)]
    scores = llm.score(ids)
    assert scores.shape == (39,)
    for i in (0, 17, 38):
        logits = expected_logits(ids[: i + 1]).astype(np.float64)
        exact = logits[ids[i + 1]] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert scores[i] == pytest.approx(exact, rel=1e-6)
    assert all_free(llm)
    with pytest.raises(NoTokens):
        llm.score("")
    assert llm.score([5]).shape == (0,)


def test_chat_follows_the_template(tiny_llm: Open) -> None:
    llm = tiny_llm()
    messages = [{"role": "user", "content": "hi"}]
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert llm.chat_prompt(messages) == prompt
    params = SamplingParams(max_tokens=6, **ENDLESS)
    answer = llm.chat(messages, params)
    assert answer.token_ids == greedy(llm.tokenizer.encode(prompt), 6)
    assert "".join(p.text for p in llm.stream_chat(messages, params)) == answer.text
    with pytest.raises(ChatError, match="message 0"):
        llm.chat([{"content": "hi"}])


def test_a_prepared_model_gives_the_same_and_has_all_its_blocks(tiny_llm: Open) -> None:
    params = SamplingParams(max_tokens=5, ignore_eos=True)
    prepared = tiny_llm(trace=("blk.0.key.rows",))
    prepared.prepare(7)
    assert all_free(prepared)
    wanted, found = (llm.generate([1, 2, 3], params)[0] for llm in (tiny_llm(), prepared))
    assert found.token_ids == wanted.token_ids
    assert prepared.clock.steps == 5
    assert len(prepared.trace.arrays()["token"]) == 3 + 4
    with pytest.raises(ContextTooLong):
        prepared.prepare(1000)


@pytest.mark.parametrize("bad", [b"abc", [1.5, 2.5], {"a": 1}])
def test_what_is_no_prompt_is_refused(tiny_llm: Open, bad: Any) -> None:
    llm = tiny_llm()
    for use in (llm.generate, llm.stream, llm.score):
        with pytest.raises(TypeError, match=r"^\[prompt\] "):
            use(bad)


def test_what_are_no_parameters_is_refused(tiny_llm: Open) -> None:
    params: Any = {"max_tokens": 3}
    with pytest.raises(TypeError, match=r"^\[params\] got dict -> SamplingParams$"):
        tiny_llm().stream([1], params)


def test_a_score_of_nothing_says_so(tiny_llm: Open) -> None:
    with pytest.raises(NoTokens, match="no tokens -> at least one") as caught:
        tiny_llm().score([])
    assert "object at" not in str(caught.value)


def test_a_closed_model_gives_its_memory_back(tiny_llm: Open) -> None:
    llm = tiny_llm()
    llm.generate([1, 2], SamplingParams(max_tokens=3))
    parts = [llm.session.caches, llm.session._binding, llm._graph.session]
    held = [weakref.ref(part) for part in parts]
    del parts
    llm.close()
    assert [part() for part in held] == [None] * 3


def test_a_closed_model_is_closed(tiny_llm: Open) -> None:
    llm = tiny_llm()
    stream = llm.stream([1, 2])
    with llm:
        next(stream)
    assert stream.completion.finish_reason == "cancelled"
    for use in (lambda: llm.generate([1]), lambda: llm.score([1, 2]), llm.prepare):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    llm.close()
