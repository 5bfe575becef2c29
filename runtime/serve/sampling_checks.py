"""What the server's own limits say of a request to generate."""

from __future__ import annotations

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.sampling import Sampling
from ferrum.runtime.serve.service import Service


def check_sampling(service: Service, asked: Sampling, *, prompts: int = 1) -> None:
    """ApiError (400) for what this server or this model never does."""
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(
            400, "[request] stream_options -> only with stream true", param="stream_options"
        )
    most = service.settings.max_choices
    if asked.choices > most:
        raise ApiError(
            400, f"[request] n, got {asked.choices} -> at most {most} (max_choices)", param="n"
        )
    places = service.settings.max_queue + service.llm.settings.max_sequences
    if prompts * asked.choices > places:
        raise ApiError(
            400,
            f"[request] prompt, got {prompts} prompts of {asked.choices} choices -> at most "
            f"{places} choices in all (max_queue and max_sequences)",
            param="prompt",
        )
    vocabulary = service.llm.session.vocabulary
    for position, token in enumerate(asked.stop_token_ids or []):
        if token >= vocabulary:
            raise ApiError(
                400,
                f"[request] stop_token_ids[{position}], got {token} -> below {vocabulary}, "
                "the vocabulary's size",
                param=f"stop_token_ids[{position}]",
            )
