"""What a text must be: OpenAI's response_format and vLLM's structured_outputs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ferrum.runtime.serve.protocol.body import Body


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """A JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema and its name."""

    name: str = Field(max_length=256, description="without effect: the model is not shown it")
    description: str | None = Field(None, description="without effect: the model is not shown it")
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="the schema; without it any JSON object will do"
    )
    strict: bool | None = Field(None, description="without effect: the schema is always kept to")


class JsonSchemaFormat(Body):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class StructuredOutputs(Body):
    """What the text must be: exactly one of these."""

    json_: dict[str, Any] | None = Field(None, alias="json", description="JSON of this schema")
    json_object: Literal[True] | None = Field(None, description="a JSON object")
    regex: str | None = Field(None, description="a match of this regular expression, all of it")
    choice: Annotated[list[str], Field(min_length=1, max_length=1000, fail_fast=True)] | None = (
        Field(None, description="one of these texts")
    )

    @property
    def given(self) -> list[str]:
        """The names of the fields that have a value."""
        return [
            field.alias or name
            for name, field in type(self).model_fields.items()
            if getattr(self, name) is not None
        ]
