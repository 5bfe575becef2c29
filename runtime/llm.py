"""The front door: an exported model that continues texts.

with LLM("model.onnx") as llm:
    print(llm.generate("def add(", SamplingParams(max_tokens=20))[0].text)
    for piece in llm.stream("def add("):
        print(piece.text, end="")
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrum.commands.report_file import ReportError, check_reports
from ferrum.custom_ops.library import read_profile
from ferrum.runtime.artifact import Artifact
from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.cache_file import CacheFileError, Stamp, restore_blocks, save_blocks
from ferrum.runtime.cache_stamp import cache_stamp
from ferrum.runtime.chat_template import ChatError, ChatTemplate, Message
from ferrum.runtime.chrome_trace import write_chrome_trace
from ferrum.runtime.ctrl_c import ctrl_c_waits
from ferrum.runtime.engine import Engine
from ferrum.runtime.fair_lock import FairLock
from ferrum.runtime.graph import Graph
from ferrum.runtime.logprobs import logprobs_of
from ferrum.runtime.placement import Caches
from ferrum.runtime.profile import Clock, Stage, stages
from ferrum.runtime.prompt import Prompt, as_list, token_ids
from ferrum.runtime.request import Completion
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings, SettingsError
from ferrum.runtime.stream import Stream
from ferrum.runtime.tokenizer import Tokenizer
from ferrum.runtime.trace import EXPERT_IDS, Trace, load_with_trace


class LLM:
    """A model with its tokenizer and caches.

    Threads may share one: steps are taken one at a time, and each advances everyone's requests.
    `engine` and `session` are for one thread at a time: whoever calls them holds `lock`.
    """

    def __init__(
        self, path: str | Path, settings: Settings | None = None, **overrides: Any
    ) -> None:
        """Open an export: its .onnx or its folder.

        Settings come from `settings`, or else from the environment, and from keyword arguments
        over either. Raises ArtifactError, SettingsError or TraceError, each with one line.

        Nothing is warmed up, which would only put off the first token; see `prepare`.
        """
        if settings is not None and not isinstance(settings, Settings):
            raise SettingsError(
                f"[settings] got {type(settings).__name__} -> Settings, or keywords"
            )
        self.settings = (
            Settings.read(**overrides) if settings is None else settings.but(**overrides)
        )
        self.artifact = Artifact.open(path)
        if self.settings.trace_out is not None:
            _check_trace_out(self.settings.trace_out, self.artifact)
        manifest = self.artifact.manifest
        self.tokenizer = Tokenizer(self.artifact.tokenizer, manifest.tokenizer)
        self._template: ChatTemplate | None = None
        self.lock = FairLock()
        self._trace: Trace | None = None
        wanted = (*self.settings.trace, *((EXPERT_IDS,) if self.settings.expert_load else ()))
        if wanted:
            self._graph, self._trace = load_with_trace(self.artifact, self.settings, wanted)
        else:
            self._graph = Graph.load(self.artifact, self.settings)
        self.session = Session(self._graph, self.settings, self._trace)
        self.engine = Engine(self.session, self.tokenizer)
        self._closed = False
        self._clear_profile()

    def prepare(self, max_tokens: int = 1) -> None:
        """Run a step of `max_tokens` tokens now, so that the first request does not wait longer.

        For servers. Profile and trace begin after it. CacheFull or ContextTooLong where such a step
        could not run.
        """
        with self.lock:
            self._check_open()
            self.session.prepare(max_tokens)
            self._clear_profile()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[Completion]:
        """Continue prompts, all of them together; results in the prompts' order.

        A prompt is a text or token ids; `params` are for all (None is greedy) or one for each.
        SessionError where a prompt is empty, has an unknown token, or does not fit; TypeError for
        what is no prompt.
        """
        texts = as_list(prompts)
        if params is None or isinstance(params, SamplingParams):
            each: list[SamplingParams | None] = [params] * len(texts)
        else:
            each = list(params)
        if len(each) != len(texts):
            raise ValueError(f"[generate] {len(each)} params for {len(texts)} prompts -> as many")
        streams: list[Stream] = []
        try:
            for text, one in zip(texts, each, strict=True):
                streams.append(self.stream(text, one))
            return [stream.finish() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, priority: int = 0
    ) -> Stream:
        """Continue one prompt; iterate over the result for each token and its text as it comes.

        Of requests that wait for each other those of lower `priority`, an integer, are served
        earlier.
        """
        return self._start(token_ids(prompt, self.tokenizer), params, priority)

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        **variables: Any,
    ) -> Completion:
        """The model's answer to messages ({"role": ..., "content": ...}), by its chat template.

        `variables` are the template's own, such as enable_thinking=False. ChatError where the
        export has no template or the template refuses the messages.
        """
        return self.stream_chat(messages, params, **variables).finish()

    def stream_chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        **variables: Any,
    ) -> Stream:
        """As `chat`, piece by piece."""
        text = self.chat_prompt(messages, **variables)
        return self._start(self.tokenizer.encode(text, add_bos=False), params)

    def chat_prompt(self, messages: Sequence[Message], **variables: Any) -> str:
        """The text that the chat template makes of messages."""
        if self._template is None:
            self._template = self._load_template()
        return self._template.render(messages, **variables)

    def score(self, prompt: Prompt) -> npt.NDArray[np.float32]:
        """Natural log of the probability of each token after the first: float32[tokens - 1].

        The mean, negated, is the prompt's cross entropy in nats; exp of that its perplexity.
        CacheFull where running requests leave too few blocks.
        """
        ids = token_ids(prompt, self.tokenizer)
        self.session.check(ids)
        following = [*ids[1:], *ids[-1:]]  # the last scores itself, and is left out
        name, scores = object(), np.empty(len(ids), np.float64)
        with self.lock:
            self._check_open()
            self.engine.drop_abandoned()
            try:
                done = 0
                with closing(self.session.prefill_parts(name, ids)) as parts:
                    for part in parts:
                        scores[done : done + len(part)] = logprobs_of(
                            part, following[done : done + len(part)]
                        )
                        done += len(part)
                        ctrl_c_waits.heed()
            finally:
                if name in self.session.sequences:
                    self.session.release(name)
        return scores[:-1].astype(np.float32)

    def save_cache(self, path: str | Path) -> int:
        """Write the blocks that prompts to come can begin with into a file; how many there are.

        CacheFileError where it cannot be written, is a file of the model, or settings.prefix_reuse
        is off.
        """
        with self.lock:
            target, pool, caches, stamp = self._cache_file(path)
            try:
                check_reports([target], self.artifact.files)
            except (ReportError, ValueError) as error:  # the latter of what can be no file's name
                raise CacheFileError(str(error)) from None
            return save_blocks(target, pool, caches, stamp)

    def load_cache(self, path: str | Path) -> int:
        """Fill unused blocks from what `save_cache` has written, those used last if not all fit.

        Returns how many were filled. CacheFileError where the file is of another model or of other
        settings that change a block's bits, or is damaged; the caches are then as they were.
        """
        with self.lock:
            return restore_blocks(*self._cache_file(path))

    def profile(self) -> list[Stage]:
        """Where the steps' time went so far; with settings.profile, inside the graph too.

        The library's totals are the process's: with several models at work they add up.
        """
        library = read_profile() if self.settings.profile else {}
        return stages(self.session.clock, library)

    @property
    def clock(self) -> Clock:
        """Number of steps and time per kind of work."""
        return self.session.clock

    @property
    def trace(self) -> Trace:
        """The values that settings.trace names; RuntimeError without any."""
        if self._trace is None:
            raise RuntimeError("[trace] no value is traced -> LLM(..., trace=('blk.0.moe',))")
        return self._trace

    def expert_load(self) -> npt.NDArray[np.int64]:
        """How often each expert was chosen, int64[layers, experts]; needs settings.expert_load."""
        return self.trace.expert_load(self.artifact.manifest.model.experts)

    def close(self) -> None:
        """End all requests, and give the memory back; writes settings.trace_out.

        The model can no longer be used.
        """
        with self.lock:
            if self._closed:
                return
            self._closed = True
            self.engine.close()
            try:
                if self.settings.trace_out is not None:
                    write_chrome_trace(
                        self.settings.trace_out, self._graph.session, self.session.clock.spans
                    )
            finally:
                self.session.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, ids: list[int], params: SamplingParams | None, priority: int = 0) -> Stream:
        chosen = SamplingParams() if params is None else params
        if not isinstance(chosen, SamplingParams):
            raise TypeError(f"[params] got {type(params).__name__} -> SamplingParams")
        if not isinstance(priority, (int, np.integer)):
            raise TypeError(f"[priority] got {priority!r} -> an integer")
        with self.lock:
            self._check_open()
            self.engine.drop_abandoned()
            request = self.engine.add(ids, chosen, priority)
            return Stream(self.engine, request, self.lock)

    def _cache_file(self, path: str | Path) -> tuple[Path, BlockPool, Caches, Stamp]:
        self._check_open()
        if not self.settings.prefix_reuse:
            raise CacheFileError(f"[{path}] prefix_reuse, got False -> True to keep any block")
        stamp = cache_stamp(self.artifact, self.settings)
        return Path(path), self.session.pool, self.session.caches, stamp

    def _load_template(self) -> ChatTemplate:
        path = self.artifact.chat_template
        if path is None:
            raise ChatError(f"[{self.artifact.path}] has no chat template -> a plain prompt")
        files = self.artifact.manifest.tokenizer
        tokens = {"bos_token": files.bos, "eos_token": next(iter(files.eos), None),
                  "pad_token": files.pad}  # fmt: skip
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ChatError(f"[{path}] is no UTF-8 -> export the model anew") from None
        return ChatTemplate(
            text,
            {name: "" if id is None else self.tokenizer.token(id) for name, id in tokens.items()},
        )

    def _clear_profile(self) -> None:
        """The profile and the trace begin here."""
        self.session.clock.clear()
        if self.settings.profile:
            read_profile(reset=True)
        if self._trace is not None:
            self._trace.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("[LLM] is closed")


def _check_trace_out(file: Path, artifact: Artifact) -> None:
    try:
        check_reports([file], artifact.files)
    except ReportError as error:
        raise SettingsError(f"[settings] trace_out: {error}") from None
