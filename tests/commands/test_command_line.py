"""However a command ends, it says so in at most one line and by its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ferrum.builder.build import BuildOptions, build
from ferrum.commands.command_line import OneLineParser, run_command

BIN = Path(sys.executable).parent
COMMANDS = ("ferrum-build", "ferrum-check", "ferrum-inspect")
MODULES = {
    "ferrum-build": "builder.cli",
    "ferrum-check": "builder.check_cli",
    "ferrum-inspect": "builder.inspect_cli",
    "ferrum-bench": "runtime.bench_cli",
    "ferrum-run": "runtime.cli",
    "ferrum-serve": "runtime.serve.cli",
}


@pytest.fixture(scope="module")
def export(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "m.onnx"
    build(sample, out, BuildOptions(progress=False))
    return out


def command(name: str, export: Path, sample: Path, out: Path) -> list[str | Path]:
    """A call that succeeds."""
    arguments: dict[str, list[str | Path]] = {
        "ferrum-build": [sample, out / "new" / "m.onnx"],
        "ferrum-check": [export, "--only", "versions"],
        "ferrum-inspect": [export],
        "ferrum-bench": [export],
        "ferrum-run": [export, "-p", "x"],
        "ferrum-serve": [export, "--port", "0"],
    }
    return [BIN / name, *arguments[name]]


def run(
    call: list[str | Path], stdout: int | None = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """With a buffered standard output, as outside of a test run."""
    env = {key: os.environ[key] for key in os.environ if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        call, stdout=stdout, stderr=subprocess.PIPE, text=True, env={**env, **environment}
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone_changes_nothing(
    name: str, unbuffered: str, export: Path, sample: Path, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(command(name, export, sample, tmp_path), writer, PYTHONUNBUFFERED=unbuffered)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told_in_one_line(
    name: str, unbuffered: str, export: Path, sample: Path, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        call = command(name, export, sample, tmp_path)
        done = run(call, full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr == (
        f"{name}: [standard output] cannot be written: No space left on device\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_standard_output_takes_everything(
    name: str, export: Path, sample: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in export.parent.iterdir()}
    call = command(name, export, sample, tmp_path)
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *map(str, call)])
    assert done.returncode == 0
    assert {path: path.read_bytes() for path in export.parent.iterdir()} == before


@pytest.mark.parametrize("name", COMMANDS)
def test_names_that_the_output_cannot_spell_are_escaped(
    name: str, export: Path, sample: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "modèle"
    folder.mkdir()
    for path in export.parent.iterdir():
        os.link(path, folder / path.name)
    call = command(name, folder / "m.onnx", sample, folder)
    done = run(call, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mod\\xe8le" in done.stdout


@pytest.mark.parametrize(
    ("name", "during"),
    [(name, during) for name in COMMANDS for during in ("onnx", "ferrum.builder.gguf")]
    + [(name, "onnxruntime") for name in MODULES if name not in COMMANDS],
)
def test_ctrl_c_is_one_line_and_130(
    name: str, during: str, export: Path, sample: Path, tmp_path: Path
) -> None:
    script = f"""
        import os, signal, sys
        class Interrupt:
            def find_spec(self, name, path=None, target=None):
                if name == {during!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupt())
        from ferrum.{MODULES[name]} import main
        sys.exit(main(sys.argv[1:]))
    """
    arguments = command(name, export, sample, tmp_path)[1:]
    done = run([sys.executable, "-c", textwrap.dedent(script), *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{name}: stopped\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("arguments", [[], ["--no-such-option"], ["a", "b", "c"]])
def test_wrong_arguments_are_one_line(name: str, arguments: list[str]) -> None:
    done = run([BIN / name, *arguments])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"{name}: ")
    assert done.stderr.endswith(f"see {name} --help\n")


def test_a_mistake_is_one_line_with_the_way_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="some-program", usage="", description="", epilog="")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--size", "many\nlines"])
    printed = capsys.readouterr()
    assert (end.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.endswith("see some-program --help\n")


def test_the_status_is_the_works_own(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    def ended() -> int:
        raise SystemExit(143)

    assert run_command("some-program", lambda: 1) == 1
    assert run_command("some-program", stopped) == 130
    assert capsys.readouterr().err == "some-program: stopped\n"
    with pytest.raises(SystemExit, match="143"):
        run_command("some-program", ended)


def test_an_end_with_a_sentence_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def ended() -> int:
        raise SystemExit("no more")

    with pytest.raises(SystemExit, match="1"):
        run_command("some-program", ended)
    assert capsys.readouterr().err == "some-program: no more\n"
