"""What a request says its text must be, to masks for the sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ferrum.runtime.grammar import Grammars
from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.grammar_text import Thinking
from ferrum.runtime.sampler import Mask
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.sampling import Sampling
from ferrum.runtime.serve.protocol.structured import (
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredOutputs,
)


@dataclass(frozen=True)
class Constraint:
    """A field that limits the text, and what makes a mask of it, a new one for each choice."""

    param: str
    make: Callable[[], Mask]

    def mask(self) -> Mask:
        """A mask for one choice; ApiError (400) for a grammar that does not work.

        It may take seconds, in which only a thread of its own should wait.
        """
        try:
            return self.make()
        except GrammarError as error:
            raise ApiError(400, str(error), param=self.param) from None


def constraint_of(
    asked: Sampling, grammars: Grammars, thinking: Thinking = "never"
) -> Constraint | None:
    """What response_format or structured_outputs asks for."""
    wanted, outputs = asked.response_format, asked.structured_outputs
    structured = isinstance(wanted, (JsonObjectFormat, JsonSchemaFormat))
    if outputs is not None and structured:
        raise ApiError(
            400, "[request] structured_outputs -> that or response_format, not both",
            param="structured_outputs",
        )  # fmt: skip
    if outputs is not None:
        return Constraint("structured_outputs", _further(outputs, grammars, thinking))
    if isinstance(wanted, JsonSchemaFormat) and wanted.json_schema.schema_ is not None:
        schema = wanted.json_schema.schema_
        return Constraint(
            "response_format", lambda: grammars.json_schema(schema, thinking=thinking)
        )
    if structured:
        return Constraint("response_format", lambda: grammars.json_object(thinking=thinking))
    return None


def _further(
    outputs: StructuredOutputs, grammars: Grammars, thinking: Thinking
) -> Callable[[], Mask]:
    given = outputs.given
    if len(given) != 1:
        names = sorted(field.alias or name for name, field in type(outputs).model_fields.items())
        raise ApiError(
            400,
            f"[request] structured_outputs, got {', '.join(given) or 'nothing'} -> "
            f"one of {', '.join(names)}",
            param="structured_outputs",
        )
    if outputs.json_ is not None:
        schema = outputs.json_
        return lambda: grammars.json_schema(schema, thinking=thinking)
    if outputs.choice is not None:
        texts = outputs.choice
        return lambda: grammars.choice(texts, thinking=thinking)
    if outputs.regex is not None:
        pattern = outputs.regex
        return lambda: grammars.regex(pattern, thinking=thinking)
    return lambda: grammars.json_object(thinking=thinking)
