"""The list of models, to OpenAI's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from ferrum.runtime.serve.protocol.answers import ModelList

if TYPE_CHECKING:
    from conftest import Api


def test_the_model_is_listed_by_its_files_name(api: Api) -> None:
    (model,) = api.client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tinycode", "model", "ferrum")
    assert model.created == api.service.created


def test_the_list_says_how_long_a_text_may_be(api: Api) -> None:
    listed = ModelList.model_validate_json(api.get("/v1/models").content)
    assert listed.data[0].max_model_len == 1024


def test_a_model_is_found_by_its_name(api: Api) -> None:
    assert api.client.models.retrieve("tinycode") == api.client.models.list().data[0]


@pytest.mark.parametrize("name", ["gpt-4o", "tinycode/x", "TinyCode"])
def test_another_model_is_not_found(api: Api, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        api.client.models.retrieve(name)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
