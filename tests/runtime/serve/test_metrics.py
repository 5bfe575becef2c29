"""What is counted, as Prometheus reads it."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.engine_thread import EngineThread
from ferrum.runtime.serve.metrics import Metrics

PROMPT = list(range(40, 140))  # three full blocks and four tokens


def read(metrics: Metrics) -> dict[str, float]:
    """Every sample by its name and labels."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


async def _run(llm: LLM, metrics: Metrics, counts: list[int], *, cancel: bool = False) -> None:
    """Requests with so many tokens each; the last may be cancelled after its first."""
    engine = EngineThread(llm, metrics, 8, 0.0)
    engine.start()
    tickets = [
        engine.submit(PROMPT, SamplingParams(max_tokens=count, ignore_eos=True)) for count in counts
    ]
    if cancel:
        await anext(tickets[-1])
        tickets.pop().cancel()
    await asyncio.gather(*(ticket.finish() for ticket in tickets))
    await engine.drain()
    engine.stop()
    await engine.stopped()


def test_requests_are_counted_by_how_they_ended_and_their_tokens(slow_llm: LLM) -> None:
    slow_llm.engine.reset()
    metrics = Metrics(slow_llm)
    graph = read(metrics)["ferrum_graph_seconds_total"]  # the model was used before
    asyncio.run(_run(slow_llm, metrics, [5, 6]))
    found = read(metrics)
    assert found["ferrum_requests_total[length]"] == 2
    assert found["ferrum_prompt_tokens_total"] == 200
    assert found["ferrum_generated_tokens_total"] == 11
    # The second waited for the three blocks that the first was computing.
    assert found["ferrum_prefill_tokens_total"] == 104
    assert found["ferrum_time_to_first_token_seconds_count"] == 2
    assert found["ferrum_time_per_output_token_seconds_count"] == 2
    assert found["ferrum_request_seconds_count"] == 2
    assert found["ferrum_step_sequences_sum"] >= 11
    assert found["ferrum_step_seconds_count"] == found["ferrum_step_sequences_count"]
    assert found["ferrum_step_seconds_sum"] >= found["ferrum_graph_seconds_total"] - graph > 0
    asyncio.run(_run(slow_llm, metrics, [900], cancel=True))
    found = read(metrics)
    assert found["ferrum_requests_total[cancelled]"] == 1
    assert found["ferrum_request_seconds_count"] == 2


def test_a_requests_times_begin_with_its_arrival(sample_llm: LLM) -> None:
    metrics = Metrics(sample_llm)

    async def test() -> None:
        engine = EngineThread(sample_llm, metrics, 8)
        engine.start()
        with engine.place() as place:
            place._since -= 1000.0
            params = SamplingParams(max_tokens=2, ignore_eos=True)
            (ticket,) = engine.submit_all(PROMPT, [params], place=place)
            place.leave()
            await ticket.finish()
        engine.stop()
        await engine.stopped()

    asyncio.run(test())
    found = read(metrics)
    assert found["ferrum_time_to_first_token_seconds_sum"] > 1000
    assert found["ferrum_request_seconds_sum"] > 1000
    assert found["ferrum_time_per_output_token_seconds_sum"] < 1000


def test_blocks_and_prefixes_are_those_of_the_model(sample_llm: LLM) -> None:
    sample_llm.engine.reset()
    metrics = Metrics(sample_llm)
    before = read(metrics)
    asyncio.run(_run(sample_llm, metrics, [1]))
    asyncio.run(_run(sample_llm, metrics, [1]))
    found = read(metrics)
    pool = sample_llm.session.pool
    assert found["ferrum_blocks"] == found["ferrum_blocks_free"] == pool.blocks
    assert found["ferrum_blocks_cached"] == 3
    assert found["ferrum_blocks_used"] == 0
    name = "ferrum_prefix_hit_tokens_total"
    assert found[name] - before[name] == 96
    assert found["ferrum_requests_running"] == found["ferrum_requests_waiting"] == 0


def test_who_waits_and_who_runs_is_seen_while_they_do(slow_llm: LLM) -> None:
    metrics = Metrics(slow_llm)

    async def test() -> None:
        engine = EngineThread(slow_llm, metrics, 8)
        engine.start()
        tickets = engine.submit_all(PROMPT, [SamplingParams(max_tokens=900, ignore_eos=True)] * 6)
        for ticket in tickets[:4]:
            await anext(ticket)
        found = read(metrics)
        assert (found["ferrum_requests_running"], found["ferrum_requests_waiting"]) == (4, 2)
        assert found["ferrum_blocks_used"] >= 4
        engine.stop()
        await engine.stopped()
        assert read(metrics)["ferrum_requests_total[cancelled]"] == 6

    asyncio.run(test())


def test_responses_are_counted_by_status(sample_llm: LLM) -> None:
    metrics = Metrics(sample_llm)
    for status in (200, 429, 200):
        metrics.response(status)
    found = read(metrics)
    assert found["ferrum_http_responses_total[200]"] == 2
    assert found["ferrum_http_responses_total[429]"] == 1


def test_every_name_is_ours_and_is_described(sample_llm: LLM) -> None:
    for family in text_string_to_metric_families(Metrics(sample_llm).text().decode()):
        assert family.name.startswith("ferrum_")
        assert family.documentation


def test_two_services_do_not_share_counters(sample_llm: LLM) -> None:
    one, other = Metrics(sample_llm), Metrics(sample_llm)
    one.response(200)
    assert "ferrum_http_responses_total[200]" not in read(other)
    assert REGISTRY.get_sample_value("ferrum_blocks") is None


def test_the_format_is_the_one_that_is_asked_for(sample_llm: LLM) -> None:
    metrics = Metrics(sample_llm)
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    assert body == metrics.text()
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
