"""The sample behind Ray Serve: replicas in real processes, one of them killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from ferrum.runtime.serve.ray import app
from ferrum.runtime.serve.ray.replica import State

Deploy = Callable[..., AbstractContextManager[str]]
KEY = "open-sesame"
HEADERS = {"authorization": f"Bearer {KEY}"}
CODE = (
    "import os\nimport sys\n\n\nclass Node:\n    def __init__(self, name):\n        self.name = 1\n"
)
PLENTY = 120.0  # seconds until a test gives up waiting


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PLENTY)


def metrics(url: str, name: str) -> dict[str, float]:
    """A metric's value by replica; an ingress waits some seconds for them, a test for longer."""
    found: dict[str, float] = {}

    def told() -> bool:
        text = httpx.get(f"{url}/metrics", headers=HEADERS, timeout=PLENTY).text
        for family in text_string_to_metric_families(text):
            samples = (sample for sample in family.samples if sample.name == name)
            found.update({sample.labels["replica"]: sample.value for sample in samples})
        return bool(found)

    until(told)
    return found


def replicas(url: str) -> int:
    """How many replicas can answer."""
    count: int = httpx.get(f"{url}/health", timeout=PLENTY).json()["replicas"]
    return count


def states(name: str) -> list[State]:
    """What the replicas of an application tell of themselves."""
    handle = serve.get_deployment_handle("Engine", name)
    found: list[State] = handle.broadcast("state").results(timeout_s=PLENTY)
    return found


def running(url: str) -> float:
    """How many requests run."""
    return sum(metrics(url, "ferrum_requests_running").values())


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become so."""
    deadline = time.monotonic() + PLENTY
    while not true():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.1)


@dataclass
class Asked:
    """A request on a thread of its own, and what has become of it."""

    url: str
    stream: bool
    tokens: int
    number: int
    begun: bool = False
    generated: int = 0
    error: Exception | None = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._ask, name=f"request {self.number}")
        thread.start()
        return thread

    def _ask(self) -> None:
        try:
            answer = client_of(self.url).completions.create(
                model="tinycode",
                prompt=f"# {self.number}\n{CODE}",
                max_tokens=self.tokens,
                stream=self.stream,
                stream_options={"include_usage": True} if self.stream else openai.omit,
                extra_body={"ignore_eos": True},
            )
            for part in answer if self.stream else [answer]:
                self.begun = True
                if part.usage is not None:
                    self.generated = part.usage.completion_tokens
        except openai.APIError as error:
            self.error = error


@pytest.fixture(scope="module")
def quick(deploy: Deploy) -> Iterator[str]:
    """Two replicas of the sample, as they are."""
    with deploy("quick", replicas=2, api_key=KEY, max_body=10_000) as url:
        yield url


def test_the_models_are_listed(quick: str) -> None:
    assert [model.id for model in client_of(quick).models.list()] == ["tinycode"]


def test_a_completion_is_the_same_from_every_replica(quick: str) -> None:
    texts = {
        client_of(quick).completions.create(
            model="tinycode", prompt=CODE, max_tokens=20, temperature=0,
            extra_body={"prompt_cache_key": str(number)},
        ).choices[0].text
        for number in range(24)  # of which one in millions has no key of one of the replicas
    }  # fmt: skip
    assert len(texts) == 1
    assert all(count > 0 for count in metrics(quick, "ferrum_generated_tokens_total").values())


def test_a_chat_is_answered_whole_and_as_a_stream(quick: str) -> None:
    asked = {"model": "tinycode", "messages": [{"role": "user", "content": "Write a loop."}],
             "max_tokens": 20, "temperature": 0}  # fmt: skip
    client = client_of(quick)
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(c.delta.content or "" for part in stream for c in part.choices) == whole


def test_every_turn_of_a_conversation_finds_what_the_one_before_has_left(quick: str) -> None:
    client = client_of(quick)
    before = metrics(quick, "ferrum_prompt_tokens_total")
    for number in range(24):
        messages = [{"role": "user", "content": f"# conversation {number}\n{CODE}{CODE}"}]
        for turn in range(3):
            done = client.chat.completions.create(
                model="tinycode", messages=messages, max_tokens=8, temperature=0
            )
            cached = done.usage.prompt_tokens_details.cached_tokens
            assert (cached > 0) == (turn > 0), f"conversation {number}, turn {turn}: {cached}"
            messages += [
                {"role": "assistant", "content": done.choices[0].message.content},
                {"role": "user", "content": "And another?"},
            ]
    after = metrics(quick, "ferrum_prompt_tokens_total")
    assert len(after) == 2
    assert all(after[replica] > before[replica] for replica in after)  # both have conversations


def test_errors_are_those_of_one_server(quick: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client_of(quick).completions.create(model="tinycode", prompt="a", temperature=-1)
    assert error.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client_of(quick).completions.create(model="another", prompt="a")
    too_long = httpx.post(f"{quick}/v1/completions", headers=HEADERS, json={"prompt": "a" * 20_000},
                          timeout=PLENTY)  # fmt: skip
    assert too_long.status_code == 413
    nothing = httpx.get(f"{quick}/nothing", headers=HEADERS, timeout=PLENTY)
    assert nothing.json()["error"]["message"]


def test_the_key_is_asked_for(quick: str) -> None:
    refused = httpx.post(f"{quick}/v1/completions", json={"prompt": "a"}, timeout=PLENTY)
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"
    well = {"status": "ok", "replicas": 2}
    until(lambda: httpx.get(f"{quick}/health", timeout=PLENTY).json() == well)


def weights_in_memory(process: int) -> tuple[int, int]:
    """Bytes of the GGUF that a process has mapped and in memory, and its part of them, where what
    n processes have is a n-th of each."""
    mapped, found = False, {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            mapped = line.endswith(".gguf")
        elif mapped and name[:-1] in found:
            found[name[:-1]] += int(rest[0]) * 1024
    return found["Rss"], found["Pss"]


def test_the_weights_are_in_memory_once(quick: str, exported: Path) -> None:
    size = next(exported.parent.glob("*.gguf")).stat().st_size
    each = [weights_in_memory(state.process) for state in states("quick")]
    assert all(resident > size / 2 for resident, _ in each)
    assert sum(part for _, part in each) <= size + 4096  # a page's end belongs to no one


@pytest.fixture(scope="module")
def slow(deploy: Deploy) -> Iterator[str]:
    """Two replicas of the sample in standard ONNX ops: some 25 tokens per second each."""
    with deploy("slow", replicas=2, kernels="reference", max_sequences=4, api_key=KEY) as url:
        yield url


def test_a_stream_is_not_held_back(slow: str) -> None:
    stream = client_of(slow).completions.create(
        model="tinycode", prompt=CODE, max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    until(lambda: running(slow) == 1)  # it is still being written
    stream.close()


def test_clients_that_go_away_leave_nothing_behind(slow: str) -> None:
    # 16 are with the replicas, 8 of them running; the others wait in the ingress.
    def ask_and_leave(number: int) -> None:
        body = {"prompt": f"# {number}\n{CODE}", "max_tokens": 900, "ignore_eos": True,
                "stream": True}  # fmt: skip
        with (
            suppress(httpx.ReadTimeout),  # one that waits leaves after a second
            httpx.stream("POST", f"{slow}/v1/completions", headers=HEADERS, json=body,
                         timeout=httpx.Timeout(PLENTY, read=1)) as answer,
        ):  # fmt: skip
            next(answer.iter_raw())  # one that runs, after its first token

    before = sum(metrics(slow, "ferrum_generated_tokens_total").values())
    threads = [threading.Thread(target=ask_and_leave, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: not any(metrics(slow, "ferrum_requests_waiting").values()))
    until(lambda: running(slow) == 0)
    assert not any(metrics(slow, "ferrum_blocks_used").values())
    assert sum(metrics(slow, "ferrum_generated_tokens_total").values()) - before < 8 * 900


def test_a_killed_replica_costs_only_the_answers_that_it_had_begun(slow: str) -> None:
    until(lambda: replicas(slow) == 2 and running(slow) == 0)
    first = Asked(slow, stream=True, tokens=900, number=40)
    threads = [first.start()]
    until(lambda: first.begun and running(slow) == 1)
    (busy,) = (name for name, n in metrics(slow, "ferrum_requests_running").items() if n)
    (killed,) = (state.process for state in states("slow") if state.replica == busy)
    asked = [Asked(slow, stream=n % 2 == 0, tokens=40, number=n) for n in range(40)]
    threads += [one.start() for one in asked]
    until(lambda: sum(one.begun for one in asked) >= 4)
    waiting = sum(not one.begun for one in asked)
    os.kill(killed, signal.SIGKILL)
    for thread in threads:
        thread.join()

    assert waiting >= 20  # under load
    assert first.error is not None
    lost = [one for one in (first, *asked) if one.error is not None]
    assert all(one.stream and one.begun for one in lost)
    assert {str(one.error) for one in lost} == {
        "the replica that computed this answer has died -> send the request again"
    }
    assert 1 <= len(lost) <= 4  # a replica runs four at a time
    assert {one.generated for one in asked if one.error is None} == {40}

    until(lambda: replicas(slow) == 2)
    assert killed not in {state.process for state in states("slow")}
    after = Asked(slow, stream=True, tokens=3, number=99)
    after.start().join()
    assert after.generated == 3


def test_a_replica_that_is_taken_away_ends_its_answers_first(slow: str, exported: Path) -> None:
    asked = [Asked(slow, stream=True, tokens=300, number=n) for n in range(8)]
    threads = [one.start() for one in asked]
    until(lambda: all(metrics(slow, "ferrum_requests_running").values()))  # both have some
    arguments = {"model": str(exported), "threads": 1, "spin": False, "kv_capacity": 4096,
                 "kernels": "reference", "max_sequences": 4, "api_key": KEY}  # fmt: skip
    serve.run(app({**arguments, "replicas": 1}), name="slow", route_prefix="/slow")
    until(lambda: replicas(slow) == 1)
    for thread in threads:
        thread.join()
    assert [(one.error, one.generated) for one in asked] == [(None, 300)] * 8


def test_replicas_are_added_while_requests_wait_and_refused_beyond_that(deploy: Deploy) -> None:
    with deploy("scaled", min_replicas=1, max_replicas=2, target_requests=1, upscale_delay=0,
                kernels="reference", max_sequences=2, max_queue=6, api_key=KEY) as url:  # fmt: skip
        until(lambda: replicas(url) == 1)
        asked = [Asked(url, stream=True, tokens=100, number=n) for n in range(20)]
        threads = [one.start() for one in asked]
        until(lambda: replicas(url) == 2)
        for thread in threads:
            thread.join()
        refused = [one.error for one in asked if one.error is not None]
        assert refused
        for error in refused:
            assert isinstance(error, openai.RateLimitError)
            assert int(error.response.headers["retry-after"]) > 0
        assert {one.generated for one in asked if one.error is None} == {100}
        assert sum(one.error is None for one in asked) >= 6
