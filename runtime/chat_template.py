"""Messages to the prompt that the model was trained on, by the template that its file carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

Message = Mapping[str, Any]


class ChatError(ValueError):
    """Messages that the template refuses, or a template that does not work; one line."""


class ChatTemplate:
    """A Jinja template in a sandbox, with the names that templates of the Hub rely on.

    `tokens` are the spellings of bos_token, eos_token and the like.
    """

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        import jinja2.sandbox  # here, as a model is loaded sooner without it and may never chat

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._tokens = dict(tokens)
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateError as error:
            raise ChatError(f"[chat template] {_one_line(error)}") from error

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt for these messages, each with "role" and "content".

        `variables` are the template's own, such as enable_thinking or tools.
        """
        for i, message in enumerate(messages):
            if not isinstance(message, Mapping) or "role" not in message:
                raise ChatError(f'[chat] message {i} -> a dict with "role" and "content"')
        try:
            return self._template.render(
                {**self._tokens, "tools": None, **variables},
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
            )
        except ChatError:
            raise
        # A template fails in whatever way its expressions do, a TypeError or one of Jinja's.
        except Exception as error:
            raise ChatError(
                f"[chat template] {type(error).__name__}: {_one_line(error)}"
            ) from error


def _refuse(message: str) -> NoReturn:
    raise ChatError(f"[chat template] refuses the messages: {message}")


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), indent=indent,
                      **options)  # fmt: skip


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
