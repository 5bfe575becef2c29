"""ferrum-serve: the command line of the server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ferrum.commands.command_line import OneLineParser, complain, run_command
from ferrum.commands.report_file import ReportError, check_reports
from ferrum.runtime.options import OptionError, add_options, given
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings, SettingsError

_DESCRIPTION = """\
Serve a model that ferrum-build has exported to many users at once, over
HTTP with OpenAI's API, and with a page to chat at /."""

_EPILOG = """\
Every setting may also come from the environment: the server's own as
FERRUM_SERVE_<NAME> (FERRUM_SERVE_API_KEY=...), the model's as FERRUM_<NAME>
(FERRUM_MAX_SEQUENCES=32); an option wins over it.

examples:
  ferrum-serve out/model.onnx
  FERRUM_SERVE_API_KEY=secret ferrum-serve out/model.onnx --host 0.0.0.0
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "Hello"}]}'

SIGTERM or Ctrl-C: no new requests are taken (503), those under way are
answered, the cache file is written, and the server ends. A second one ends
those under way where they are.

exit status: 0 ended when told to, 1 the cache file could not be written or the
model failed, 2 bad input or arguments (one line says what), 130 or 143 stopped
by a second Ctrl-C or SIGTERM, or by the first while the model was loaded"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-serve."""
    result = OneLineParser(
        prog="ferrum-serve",
        usage="ferrum-serve OUT.onnx [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    result.add_argument("model", metavar="OUT.onnx", type=Path,
                        help="the graph that ferrum-build wrote, or its folder")  # fmt: skip
    add_options(result.add_argument_group("server"), ServeSettings)
    add_options(result.add_argument_group("model"), Settings)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-serve; returns the exit status."""
    return run_command("ferrum-serve", lambda: _main(parser().parse_args(argv)))


def _main(arguments: argparse.Namespace) -> int:
    try:
        serve = ServeSettings.read(**given(arguments, ServeSettings))
        settings = Settings.read(**given(arguments, Settings))
        _check_cache_file(serve, settings)
    except (OptionError, SettingsError) as error:
        return complain("ferrum-serve", error, 2)
    try:
        # Imported here so that --help and a wrong option answer at once.
        from ferrum.runtime.serve.run import run
    except ModuleNotFoundError as error:
        return complain("ferrum-serve", f"{error} -> pip install '.[serve]' in ferrum's folder", 2)
    from ferrum.runtime.artifact import ArtifactError
    from ferrum.runtime.cache_file import CacheFileError
    from ferrum.runtime.session_errors import SessionError
    from ferrum.runtime.trace import TraceError

    bad_input = (ArtifactError, CacheFileError, SettingsError, SessionError, TraceError, OSError)
    try:
        return run(arguments.model, settings, serve)
    except bad_input as error:
        return complain("ferrum-serve", error, 2)


def _check_cache_file(serve: ServeSettings, settings: Settings) -> None:
    """What would otherwise be found out when the server ends."""
    if serve.cache_file is None:
        return
    try:
        check_reports([serve.cache_file], [])
    except ReportError as error:
        raise SettingsError(f"[settings] cache_file: {error}") from None
    if not settings.prefix_reuse:
        raise SettingsError("[settings] cache_file is given, but --no-prefix-reuse keeps nothing")


if __name__ == "__main__":
    sys.exit(main())
