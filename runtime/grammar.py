"""What an answer must look like to masks for the sampler: a JSON schema, a pattern, tool calls.

grammars = Grammars(llm.tokenizer, llm.session.vocabulary)
params = SamplingParams(mask=grammars.json_schema({"type": "array", "items": {"type": "integer"}}))
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.grammar_text import (
    Schema,
    Thinking,
    choice_grammar,
    explained,
    regex_grammar,
    schema_grammar,
    tool_call_grammar,
)
from ferrum.runtime.grammar_trial import STACK, GrammarTrial
from ferrum.runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_KNOWN = 1024  # grammars that passed their trial and need no other
_LEXER_STATES = 100_000  # of one request, 1 to 2 KB each


class Grammars:
    """Makes masks for one model's vocabulary.

    Each mask is for one request: it follows what that request generates. When the grammar is
    complete, only the model's end tokens are allowed. Errors are GrammarError, raised when a mask
    is made; later ones only where a step would take too long. Any thread may ask for masks.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """`vocabulary` is the number of logits; ids beyond the tokenizer's are never allowed."""
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._lexicon: LLTokenizer | None = None
        self._trial = GrammarTrial()
        self._known: OrderedDict[bytes, None] = OrderedDict()  # digests, the last used at its end
        self._thread: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def json_schema(self, schema: Schema, *, thinking: Thinking = "never") -> GrammarMask:
        """JSON that a schema allows. A keyword that cannot be enforced is an error."""
        return self._mask("json_schema", lambda: schema_grammar(schema, thinking))

    def json_object(self, *, thinking: Thinking = "never") -> GrammarMask:
        """Any JSON object."""
        return self.json_schema({"type": "object"}, thinking=thinking)

    def regex(self, pattern: str, *, thinking: Thinking = "never") -> GrammarMask:
        """Text that the whole of a pattern matches.

        The syntax is that of Rust's regex crate, much like Python's but without look-around,
        references to groups and anchors within.
        """
        return self._mask("regex", lambda: regex_grammar(pattern, thinking))

    def choice(self, texts: Sequence[str], *, thinking: Thinking = "never") -> GrammarMask:
        """One of these texts."""
        return self._mask("choice", lambda: choice_grammar(texts, thinking))

    def tool_calls(
        self,
        tools: Sequence[Mapping[str, Any]],
        name: str | None = None,
        parallel: bool = True,
        *,
        thinking: Thinking = "never",
    ) -> GrammarMask:
        """At least one call of a tool, as Qwen3 writes them; of the tool `name` where it is given.

        `tools` as in OpenAI's API; several calls only where `parallel`.
        """
        return self._mask("tools", lambda: tool_call_grammar(tools, name, parallel, thinking))

    def lark(self, grammar: str) -> GrammarMask:
        """Any grammar in llguidance's variant of Lark."""
        return self._mask("grammar", lambda: grammar)

    def close(self) -> None:
        """Free what making masks needs; masks that were made go on."""
        with self._lock:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = None
            self._trial.close()

    def _mask(self, kind: str, grammar: Callable[[], str]) -> GrammarMask:
        try:
            import llguidance  # noqa: F401 - here, as most models are used without
        except ImportError:
            raise GrammarError(
                "[grammar] llguidance is not installed -> pip install '.[serve]' in ferrum's folder"
            ) from None
        text = grammar()
        with self._lock:
            if self._thread is None:
                self._thread = _deep_thread()
            compiled = self._thread.submit(self._compile, kind, text)
        return compiled.result()

    def _compile(self, kind: str, text: str) -> GrammarMask:
        from llguidance import LLMatcher, LLParserLimits

        if self._lexicon is None:
            self._lexicon = _lexicon(self._tokenizer, self._vocabulary)
        self._try(kind, text)
        limits = LLParserLimits(verbose_errors=False, max_lexer_states=_LEXER_STATES)
        matcher = LLMatcher(self._lexicon, text, log_level=0, limits=limits)
        return GrammarMask(kind, matcher, self._vocabulary)

    def _try(self, kind: str, text: str) -> None:
        """GrammarError where a grammar is wrong, or takes too much to compile."""
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest not in self._known:
            problem = self._trial.problem(text)
            if problem:
                raise GrammarError(explained(problem, kind, text))
            self._known[digest] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(digest)


class GrammarMask:
    """The tokens that one request may go on with, as it generates token after token."""

    def __init__(self, kind: str, matcher: LLMatcher, vocabulary: int) -> None:
        self._kind, self._matcher, self._vocabulary = kind, matcher, vocabulary
        self._taken = 0  # of the generated tokens
        # Already now: it is the one that takes longest, and shows whether the grammar works.
        self._allowed = self._compute()

    def __call__(self, generated: Sequence[int]) -> npt.NDArray[np.bool_]:
        """bool[vocabulary], after all tokens that the request generated so far.

        The lock of Python's interpreter is free while it is computed.
        """
        if len(generated) < self._taken:
            raise GrammarError(
                f"[{self._kind}] a mask that follows {self._taken} tokens, got {len(generated)} -> "
                "one mask for each request"
            )
        if len(generated) > self._taken:
            for token in generated[self._taken :]:
                self._taken += 1
                if not self._matcher.consume_token(token):
                    self._fail()
            self._allowed = self._compute()
        return self._allowed

    def _compute(self) -> npt.NDArray[np.bool_]:
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            self._fail()
        bits = np.unpackbits(words, count=self._vocabulary, bitorder="little")
        return bits.view(np.bool_)

    def _fail(self) -> None:
        where = f" (after {self._taken} tokens)" if self._taken else ""
        raise GrammarError(explained(self._matcher.get_error(), self._kind, "") + where)


class _Spelling:
    """The vocabulary as llguidance asks for it: every token's bytes, and how text is cut."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(token) for token in range(vocabulary)]
        self.eos_token_id = tokenizer.files.eos[0]
        self.bos_token_id = tokenizer.files.bos
        self._single = {spelled[0]: token for token, spelled in enumerate(self.tokens)
                        if len(spelled) == 1}  # fmt: skip

    def __call__(self, text: str | bytes) -> list[int]:
        spelled = text.encode() if isinstance(text, str) else text
        ids = self._tokenizer.encode(spelled.decode("utf-8", "replace"), add_bos=False)
        # A tokenizer may compose accents (NFC), or take a spelled-out <|im_end|> for the token.
        if b"".join(self.tokens[token] for token in ids) != spelled:
            ids = [self._single[byte] for byte in spelled]
        return ids


def _lexicon(tokenizer: Tokenizer, vocabulary: int) -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    if not tokenizer.files.eos:
        raise GrammarError("[grammar] the model has no end token -> one that ends its answers")
    spelling = TokenizerWrapper(_Spelling(tokenizer, vocabulary))
    return LLTokenizer(spelling, n_vocab=vocabulary, eos_token=tokenizer.files.eos)


def _deep_thread() -> ThreadPoolExecutor:
    """A thread whose stack is deep enough for all that the trial lets pass.

    One, so that grammars that take long keep one core busy at most.
    """
    thread = ThreadPoolExecutor(1, "ferrum-grammar")
    before = threading.stack_size(4 * STACK)
    try:
        thread.submit(int).result()
    finally:
        threading.stack_size(before)
    return thread
