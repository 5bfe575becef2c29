"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from ferrum.runtime.grammar_text import Thinking
from ferrum.runtime.serve.chat_form import ChatForm
from ferrum.runtime.serve.chat_prompt import chat_prompt, plain
from ferrum.runtime.serve.constraint import Constraint, constraint_of
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.generation import Generation
from ferrum.runtime.serve.intake import check_model, encoded
from ferrum.runtime.serve.protocol.chat import ChatRequest, ForcedTool
from ferrum.runtime.serve.respond import Generate, Respond
from ferrum.runtime.serve.sampling_checks import check_sampling
from ferrum.runtime.serve.service import Service


async def chat_completions(request: Request) -> Generate:
    """Answer a conversation."""
    return Generate(request, _prepare)


def _prepare(service: Service, body: bytes) -> Respond:
    asked = ChatRequest.read(body)
    check_model(service, asked.model)
    check_sampling(service, asked)
    _check(asked)
    tools = [] if asked.tool_choice == "none" else asked.tools or []
    prompt = chat_prompt(service, asked.messages, tools, _variables(asked))
    ids = encoded(service, prompt.text, "messages", add_bos=False)
    params = [
        asked.params(
            choice,
            max_tokens=asked.max_completion_tokens or asked.max_tokens,
            logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        )
        for choice in range(asked.choices)
    ]
    generation = Generation(
        prompts=[ids],
        params=[params],
        priority=asked.priority or 0,
        param="messages",
        constraint=_constraint(service, asked, prompt.thinking),
    )
    return Respond(service, generation, ChatForm(service, asked, prompt))


def _check(asked: ChatRequest) -> None:
    """ApiError (400) for fields that do not go together."""
    if asked.top_logprobs is not None and not asked.logprobs:
        raise ApiError(
            400, "[request] top_logprobs -> only with logprobs true", param="top_logprobs"
        )
    if None not in (asked.max_tokens, asked.max_completion_tokens):
        raise ApiError(
            400, "[request] max_tokens -> that or max_completion_tokens", param="max_tokens"
        )
    choice = asked.tool_choice
    names = [tool.function.name for tool in asked.tools or []]
    if choice == "required" and not names:
        raise ApiError(400, "[request] tool_choice, got 'required' -> tools", param="tool_choice")
    if isinstance(choice, ForcedTool) and choice.function.name not in names:
        raise ApiError(
            400,
            f"[request] tool_choice, got {choice.function.name!r} -> a function of tools",
            param="tool_choice",
        )


def _variables(asked: ChatRequest) -> dict[str, Any]:
    variables = dict(asked.chat_template_kwargs or {})
    if asked.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", asked.reasoning_effort)
        if asked.reasoning_effort == "none":
            variables.setdefault("enable_thinking", False)
    return variables


def _constraint(service: Service, asked: ChatRequest, thinking: Thinking) -> Constraint | None:
    text = constraint_of(asked, service.grammars, thinking)
    if not asked.tools or asked.tool_choice == "none":
        return text
    if text is not None:
        # A mask for the text would forbid every call without a word.
        raise ApiError(
            400, f"[request] {text.param} -> not with tools, unless tool_choice is 'none'",
            param=text.param,
        )  # fmt: skip
    if asked.tool_choice in (None, "auto"):
        return None
    name = asked.tool_choice.function.name if isinstance(asked.tool_choice, ForcedTool) else None
    tools = [plain(tool) for tool in asked.tools]
    # A certain function is called once, as OpenAI has it.
    parallel = name is None and asked.parallel_tool_calls is not False
    return Constraint(
        "tools",
        lambda: service.grammars.tool_calls(tools, name, parallel, thinking=thinking),
    )
