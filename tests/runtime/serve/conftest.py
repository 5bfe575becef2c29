"""The sample, served: in this process for what needs a look inside, and as the program itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from live_server import serving
from served import Served, served

from ferrum.runtime.llm import LLM
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.settings import ServeSettings


@pytest.fixture(scope="session")
def sample_llm(exported: Path) -> Iterator[LLM]:
    """The sample with few blocks, checked after every step. Tests leave it without requests."""
    with LLM(exported, kv_capacity=4096, max_sequences=4, check_blocks=True) as llm:
        yield llm


@pytest.fixture(scope="session")
def slow_llm(exported: Path) -> Iterator[LLM]:
    """As `sample_llm`, with 30 steps per second at most: a thousand tokens are under way for half a
    minute, however late a busy machine lets a test look."""
    with LLM(exported, kv_capacity=4096, max_sequences=4, check_blocks=True) as llm:
        usual = llm.session._binding.run

        def late(step: Any) -> Any:
            time.sleep(1 / 30)
            return usual(step)

        llm.session._binding.run = late  # type: ignore[method-assign]
        yield llm


@dataclass(frozen=True)
class Api:
    """A service of this process that listens, and OpenAI's client for it."""

    url: str
    client: openai.OpenAI
    service: Service

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60)


@contextmanager
def api_of(llm: LLM, **settings: Any) -> Iterator[Api]:
    """A model's API while the block runs."""
    service = Service.of(llm, ServeSettings(**settings))
    with (
        serving(service) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield Api(url, client, service)
    assert llm.engine.idle
    assert llm.session.pool.used == 0


@pytest.fixture(scope="module")
def api(sample_llm: LLM) -> Iterator[Api]:
    """The sample's API."""
    with api_of(sample_llm) as api:
        yield api


@pytest.fixture(scope="module")
def slow_api(slow_llm: LLM) -> Iterator[Api]:
    """The sample's API, of which an answer takes long."""
    with api_of(slow_llm) as api:
        yield api


@pytest.fixture
def api_with(sample_llm: LLM) -> Callable[..., AbstractContextManager[Api]]:
    """Opens the sample's API with settings of the server."""
    return partial(api_of, sample_llm)


@pytest.fixture(scope="module")
def thinking_api(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The sample's API with a chat template that knows thoughts and tools, as Qwen3's does."""
    folder = tmp_path_factory.mktemp("thinking") / "export"
    shutil.copytree(exported.parent, folder)
    (folder / "chat_template.jinja").write_text(THINKING_TEMPLATE)
    with LLM(folder, kv_capacity=4096, max_sequences=4) as llm, api_of(llm) as api:
        yield api


THINKING_TEMPLATE = """\
{%- if messages[0].role == "tool" %}{{ raise_exception("a tool cannot begin") }}{% endif -%}
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif -%}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% elif open_thoughts %}<think>
{% endif %}{% endif -%}
"""


@pytest.fixture
def ferrum_serve(exported: Path) -> Iterator[Callable[..., Served]]:
    """Starts ferrum-serve on the sample with further options, and waits until it listens."""
    with ExitStack() as stack:
        yield lambda *options, **environment: stack.enter_context(
            served(exported, *options, **environment)
        )
