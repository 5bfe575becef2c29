"""What ferrum-run asks of a model in a conversation."""

from __future__ import annotations

from pathlib import Path

from ferrum.runtime.conversation import Conversation
from ferrum.runtime.llm import LLM
from ferrum.runtime.tokenizer import Tokenizer


def test_a_conversation_asks_what_chat_does_of_models_with_a_first_token_too(
    exported: Path,
) -> None:
    """The template alone says how a chat begins: the model must not get that token twice."""
    with LLM(exported, threads=1, kv_capacity=256) as llm:
        files = llm.tokenizer.files.model_copy(update={"add_bos": True, "bos": 1})
        llm.tokenizer = Tokenizer(llm.artifact.tokenizer, files)
        assert llm.tokenizer.encode("a")[0] == 1
        chat = llm.stream_chat([{"role": "user", "content": "a loop"}])
        assert Conversation(llm, None, {}).ask("a loop") == chat._request.tokens
