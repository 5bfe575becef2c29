"""ferrum-run: the command line of the runtime."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferrum.commands.command_line import OneLineParser, complain, run_command
from ferrum.commands.report_file import ReportError, check_reports
from ferrum.runtime.options import OptionError, add_options, given
from ferrum.runtime.sampler import SamplingError, SamplingParams
from ferrum.runtime.settings import Settings, SettingsError

_DESCRIPTION = """\
Continue a prompt with a model that ferrum-build has exported, or chat with it.

With -p or -f the prompt is continued as it stands (with --chat: answered, by
the model's chat template). Without them every line of the standard input is
a message of one conversation. The text goes to the standard output, speeds
and reports to the standard error."""

_EPILOG = """\
Every setting may also come from the environment, as FERRUM_<NAME>
(FERRUM_MOE_PATH=grouped); an option wins over it.

examples:
  ferrum-run out/model.onnx -p "def fibonacci(n):" --max-tokens 100
  ferrum-run out/model.onnx --temperature 0.6 --top-k 20 --top-p 0.95
  ferrum-run out/model.onnx -p "import os" --profile
  ferrum-run out/model.onnx -p "import os" --trace 'blk.*.expert_ids' --trace-file ids.npz

exit status: 0 done, 1 the graph failed, 2 bad input or arguments (one line says
what), 130 stopped by Ctrl-C"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-run."""
    result = OneLineParser(
        prog="ferrum-run",
        usage="ferrum-run OUT.onnx [-p PROMPT | -f FILE] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    result.add_argument("model", metavar="OUT.onnx", type=Path,
                        help="the graph that ferrum-build wrote, or its folder")  # fmt: skip
    prompt = result.add_mutually_exclusive_group()
    prompt.add_argument("-p", "--prompt", metavar="PROMPT", help="the text to continue")
    prompt.add_argument("-f", "--file", metavar="FILE", help="a file with the text to continue; "
                        "- is the standard input")  # fmt: skip
    result.add_argument("--chat", action="store_true",
                        help="answer the prompt as a message, by the chat template")  # fmt: skip
    result.add_argument("--system", metavar="TEXT", help="the system message of a chat")
    result.add_argument("--chat-option", metavar="NAME=JSON", action="append", default=[],
                        help="a variable of the chat template, such as "
                        "enable_thinking=false")  # fmt: skip
    result.add_argument("--json", action="store_true",
                        help="print one JSON object instead of text (with -p or -f)")  # fmt: skip
    result.add_argument("--trace-file", metavar="FILE.npz", type=Path,
                        help="where --trace saves its values (default: trace.npz)")  # fmt: skip
    add_options(result.add_argument_group("sampling"), SamplingParams)
    add_options(result.add_argument_group("settings"), Settings)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-run; returns the exit status."""
    return run_command("ferrum-run", lambda: _main(parser().parse_args(argv)))


def _main(arguments: argparse.Namespace) -> int:
    try:
        params = SamplingParams(**given(arguments, SamplingParams))
        settings = Settings.read(**given(arguments, Settings))
        variables = _chat_options(arguments.chat_option)
        _check(arguments, settings)
        prompt = _prompt(arguments)
    except (OptionError, ReportError, SamplingError, SettingsError, OSError) as error:
        return complain("ferrum-run", error, 2)
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.runtime.artifact import ArtifactError
    from ferrum.runtime.binding import GraphError
    from ferrum.runtime.chat_template import ChatError
    from ferrum.runtime.conversation import Conversation, Run
    from ferrum.runtime.llm import LLM
    from ferrum.runtime.session_errors import SessionError
    from ferrum.runtime.trace import TraceError

    bad_input = (ArtifactError, SettingsError, SamplingError, SessionError, TraceError, ChatError,
                 ReportError, OSError)  # fmt: skip
    try:
        with LLM(arguments.model, settings) as llm:
            _tell_if_streaming(llm)
            if settings.trace:  # the other report is checked as the model is loaded
                check_reports([_trace_file(arguments)], llm.artifact.files)
            run = Run(llm, params, _trace_file(arguments), arguments.json)
            conversation = Conversation(llm, arguments.system, variables)
            if prompt is None:
                return run.converse(conversation)
            return run.once(conversation.ask(prompt) if arguments.chat else prompt)
    except BrokenPipeError:  # the reader has gone: it has seen enough
        return 0
    except bad_input as error:
        return complain("ferrum-run", error, 2)
    except GraphError as error:
        return complain("ferrum-run", error, 1)


def _tell_if_streaming(llm: Any) -> None:
    """One line where the weights do not fit the memory: why it is slow, and how fast it can be."""
    if llm.settings.device == "cuda" or llm.session.pages.fit:
        return
    from ferrum.runtime.bench.streaming import streaming_notice

    print(f"ferrum-run: {streaming_notice(llm.artifact, llm.session.pages)}", file=sys.stderr)


def _check(arguments: argparse.Namespace, settings: Settings) -> None:
    """OptionError for options that mean nothing beside the others."""
    prompt = arguments.prompt is not None or arguments.file is not None
    if arguments.trace_file and not settings.trace:
        raise OptionError("[trace_file] is given without --trace, which names what to save")
    check_reports(_reports(arguments, settings), [])
    if arguments.json and not prompt:
        raise OptionError("[json] is given without a prompt -> -p or -f")
    for option in ("system", "chat_option"):
        if getattr(arguments, option) and prompt and not arguments.chat:
            raise OptionError(f"[{option}] is given for a prompt that is continued -> --chat too")
    if arguments.file in (None, "-") and arguments.prompt is None and sys.stdin is None:
        raise OptionError("[standard input] is closed -> -p or -f")


def _reports(arguments: argparse.Namespace, settings: Settings) -> list[Path]:
    """The files that the run writes."""
    traced = [_trace_file(arguments)] if settings.trace else []
    return traced + ([] if settings.trace_out is None else [settings.trace_out])


def _trace_file(arguments: argparse.Namespace) -> Path:
    given: Path | None = arguments.trace_file
    return given or Path("trace.npz")


def _prompt(arguments: argparse.Namespace) -> str | None:
    if arguments.file is None:
        prompt: str | None = arguments.prompt
        return prompt
    name = "standard input" if arguments.file == "-" else arguments.file
    try:
        if arguments.file == "-":
            return sys.stdin.read()
        return Path(arguments.file).read_bytes().decode()  # its line ends as they are
    except UnicodeDecodeError as error:
        raise OptionError(f"[{name}] byte {error.start} is no UTF-8 -> a text") from None


def _chat_options(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise OptionError(f"[chat_option] {text!r} -> NAME=JSON, such as enable_thinking=false"
                              ) from None  # fmt: skip
        if not equals or not name.isidentifier():
            raise OptionError(f"[chat_option] {text!r} -> NAME=JSON, such as enable_thinking=false")
        if name in ("self", "messages", "add_generation_prompt"):
            raise OptionError(f"[chat_option] {name} -> one of the template's own variables")
    return found
