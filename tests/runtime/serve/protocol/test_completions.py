"""Every field of OpenAI's completions is known here."""

from __future__ import annotations

from openai.types.completion_create_params import CompletionCreateParamsBase

from ferrum.runtime.serve.protocol.completions import CompletionRequest


def test_every_field_of_openais_is_known() -> None:
    assert set(CompletionCreateParamsBase.__annotations__) <= set(CompletionRequest.model_fields)
