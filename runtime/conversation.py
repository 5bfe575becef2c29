"""What ferrum-run does with a loaded model: one prompt, or a conversation, and the reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferrum.commands.command_line import complain, tell
from ferrum.commands.report_file import ReportError
from ferrum.runtime.chat_template import ChatError
from ferrum.runtime.llm import LLM
from ferrum.runtime.profile import table
from ferrum.runtime.prompt import Prompt
from ferrum.runtime.request import Completion
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session_errors import BadText, SessionError
from ferrum.runtime.stream import Stream


class Conversation:
    """The messages so far; asking gives the prompt for the next answer."""

    def __init__(self, llm: LLM, system: str | None, variables: dict[str, Any]) -> None:
        self._llm, self._variables = llm, variables
        self._messages: list[dict[str, str]] = []
        if system is not None:
            self._messages.append({"role": "system", "content": system})

    def ask(self, text: str) -> list[int]:
        """The prompt that has the model answer `text`: its template says how it begins."""
        self._messages.append({"role": "user", "content": text})
        prompt = self._llm.chat_prompt(self._messages, **self._variables)
        return self._llm.tokenizer.encode(prompt, add_bos=False)

    def answered(self, text: str) -> None:
        """Note the answer."""
        self._messages.append({"role": "assistant", "content": text})

    def unasked(self) -> None:
        """Forget the last question, which cannot be answered."""
        self._messages.pop()


class Run:
    """Streams completions to the standard output and reports to the standard error."""

    def __init__(self, llm: LLM, params: SamplingParams, trace_file: Path, as_json: bool) -> None:
        self._llm, self._params = llm, params
        self._trace_file, self._json = trace_file, as_json

    def once(self, prompt: Prompt) -> int:
        """Continue one prompt; the exit status."""
        with self._reports():
            completion = self._complete(prompt)
            if self._json:
                print(json.dumps(self._as_dict(completion), indent=1))
            else:
                print(flush=True)
                print(speeds(completion), file=sys.stderr)
        return 130 if completion.finish_reason == "cancelled" else 0

    def converse(self, conversation: Conversation) -> int:
        """Answer line after line until the input ends; the exit status."""
        interactive = sys.stdin.isatty()
        with self._reports():
            for line in _lines(interactive):
                try:
                    completion = self._complete(conversation.ask(line))
                except (SessionError, ChatError) as error:
                    if not interactive:
                        raise
                    conversation.unasked()
                    complain("ferrum-run", error, 2)
                    continue
                conversation.answered(completion.text)
                print(flush=True)
                print(speeds(completion), file=sys.stderr)
                # At a terminal Ctrl-C stops an answer; between answers, and in a pipe, the program.
                if completion.finish_reason == "cancelled" and not interactive:
                    return 130
        return 0

    def _complete(self, prompt: Prompt) -> Completion:
        stream = self._llm.stream(prompt, self._params)
        try:
            self._show(stream)
        except KeyboardInterrupt:
            stream.close()
        except BaseException:
            stream.close()
            raise
        return stream.completion

    def _show(self, stream: Stream) -> None:
        for piece in stream:
            if piece.text and not self._json:
                print(piece.text, end="", flush=True)

    @contextmanager
    def _reports(self) -> Iterator[None]:
        """Write them when the block ends, and also where it fails after a step."""
        try:
            yield
        except BaseException:
            if self._llm.clock.steps:
                try:
                    self._report()
                except ReportError as error:  # beside the one that is raised
                    tell("ferrum-run", str(error))
            raise
        self._report()

    def _report(self) -> None:
        settings = self._llm.settings
        if settings.profile and not self._json:
            print(table(self._llm.profile(), self._llm.clock.steps), file=sys.stderr)
        if settings.expert_load and not self._json:
            for layer, counts in enumerate(self._expert_load()):
                print(f"layer {layer:>3} experts: {' '.join(map(str, counts))}", file=sys.stderr)
        if settings.trace:
            self._llm.trace.save(self._trace_file)
            print(f"{len(self._llm.trace.names)} values in {self._trace_file}", file=sys.stderr)

    def _expert_load(self) -> list[list[int]]:
        counts: list[list[int]] = self._llm.expert_load().tolist()
        return counts

    def _as_dict(self, completion: Completion) -> dict[str, Any]:
        prompt, generation = rates(completion)
        result: dict[str, Any] = {
            "text": completion.text,
            "token_ids": completion.token_ids,
            "finish_reason": completion.finish_reason,
            "stop_reason": completion.stop_reason,
            "prompt_tokens": completion.prompt_tokens,
            "prompt_seconds": completion.timings.first_token,
            "generation_seconds": completion.timings.generation,
            "prompt_tokens_per_second": prompt,
            "generation_tokens_per_second": generation,
        }
        if completion.logprobs is not None:
            result["logprobs"] = [row.model_dump() for row in completion.logprobs]
        if self._llm.settings.profile:
            result["profile"] = {
                row.name: {"calls": row.calls, "seconds": row.seconds}
                for row in self._llm.profile()
            }
        if self._llm.settings.expert_load:
            result["expert_load"] = self._expert_load()
        return result


def _lines(interactive: bool) -> Iterator[str]:
    """The lines of the standard input that say something; BadText for what is no UTF-8."""
    while True:
        if interactive:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise BadText(f"[standard input] {error.reason} -> a text of UTF-8") from None
        if not line:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def rates(completion: Completion) -> tuple[float | None, float | None]:
    """Tokens per second of the prompt and of the generation; None where there was nothing to time.

    The first token comes out of the prompt's last step, so the generation's time begins after it.
    """
    timings, later = completion.timings, len(completion.token_ids) - 1
    prompt = completion.prompt_tokens / timings.first_token if later >= 0 else None
    return prompt, later / timings.generation if later > 0 else None


def speeds(completion: Completion) -> str:
    """One line for people: how fast the prompt and the text went."""
    prompt, generation = rates(completion)
    count, timings = len(completion.token_ids), completion.timings
    parts = [f"prompt: {completion.prompt_tokens:,} tokens"]
    if prompt is not None:
        parts[0] += f" in {timings.first_token:.2f} s, {prompt:,.1f} tokens/s"
    parts.append(f"generation: {count:,} tokens")
    if generation is not None:
        parts[1] += f" in {timings.generation:.2f} s, {generation:,.1f} tokens/s"
    return f"[{'; '.join(parts)}; {completion.finish_reason}]"
