"""What a runtime reads beside the graph: ferrum.json, tokenizer, chat template, genai's config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from ferrum.builder import genai, manifest
from ferrum.builder.check.export import Export, NotChecked
from ferrum.builder.check.finding import Finding, judged
from ferrum.builder.gguf_header import quoted
from ferrum.builder.tokenizer import CHAT_TEMPLATE
from ferrum.commands.journal import half_done

_DEPTH = 3  # of keys that a difference is told by


def manifest_file(export: Export) -> Finding:
    """ferrum.json says of model, graph, sources and token ids what the graph and the GGUF say."""
    problems: list[str] = []
    found = _json(export.folder / manifest.FILE, problems)
    if found is None:
        return judged(problems, "")
    wanted = {
        "model": json.loads(export.metadata["ferrum.config"]),
        "source": {"files": export.records},
        "ferrum": export.metadata.get("ferrum.version"),
    }
    problems = [
        f"{manifest.FILE}: {key} is not what the graph says: of another build"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    problems += [
        f"{name} {claimed} -> {wanted}, as in the graph"
        for name, (claimed, wanted) in _told(export, found).items()
        if claimed != wanted
    ]
    if found.get("format") != manifest.FORMAT:
        problems.append(f"{manifest.FILE}: format {found.get('format')} -> {manifest.FORMAT}")
    problems += _token_ids(export, found)
    if half_done(export.folder):
        problems.append("a build in this folder has not ended, or was killed half-way")
    return judged(
        problems, f"{manifest.FILE}: model, sources, version and token ids as in graph and GGUF"
    )


def _told(export: Export, found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is said of the graph, beside what the graph is."""
    graph = found.get("graph")
    said = graph if isinstance(graph, dict) else {}
    entry = f"{manifest.FILE}: graph."
    return {
        f"{entry}file": (said.get("file"), export.path.name),
        f"{entry}kv_dtype": (said.get("kv_dtype"), export.kv_dtype),
        f"{entry}cpu_experts": (said.get("cpu_experts", 0), export.cpu_experts),
        f"{entry}activation_dtype": (said.get("activation_dtype"), export.dtype),
        # Older builders had one type and did not say it here.
        "metadata ferrum.activation_dtype": (
            export.metadata.get("ferrum.activation_dtype", "float32"), export.dtype
        ),
    }  # fmt: skip


def _token_ids(export: Export, found: dict[str, Any]) -> list[str]:
    try:
        wanted = manifest.tokenizer_entry(export.tokenizer)
    except NotChecked:  # that the weights are missing is another check's finding
        return []
    return list(_differences(found.get("tokenizer"), wanted, f"{manifest.FILE}: tokenizer"))


def companion_files(export: Export) -> Finding:
    """Tokenizer, chat template and genai's config are there and can be read; with --gguf, they are
    what a build of it writes."""
    wanted = export.tokenizer.files()
    problems = _loaded(export, wanted.keys())
    if export.source is not None and not problems:
        problems = _compared(export, wanted)
    problems += _genai(export)
    names = ", ".join((*wanted, genai.FILE))
    return judged(
        problems, f"{names}: {'as the GGUF makes them' if export.source else 'there and readable'}"
    )


def _loaded(export: Export, names: Iterable[str]) -> list[str]:
    problems: list[str] = []
    for name in names:
        if name.endswith(".json"):
            _json(export.folder / name, problems)
        else:
            _text(export.folder / name, problems)
    return problems or _tokenizer(export)


def _tokenizer(export: Export) -> list[str]:
    """As the runtime takes it: of bytes, each of its tokens a row of the embedding."""
    try:
        tokenizer = Tokenizer.from_file(str(export.folder / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises bare Exception
        return [f"tokenizer.json: not a tokenizer: {' '.join(str(error).split())}"]
    if not isinstance(tokenizer.decoder, ByteLevel):
        return [f"tokenizer.json: decoder {type(tokenizer.decoder).__name__} -> ByteLevel"]
    size, rows = tokenizer.get_vocab_size(), export.config.vocabulary
    return [f"tokenizer.json: {size} tokens -> at most {rows}"] if size > rows else []


def _compared(export: Export, wanted: dict[str, str]) -> list[str]:
    problems: list[str] = []
    for name, text in wanted.items():
        path = export.folder / name
        if name == CHAT_TEMPLATE:
            if _text(path, problems) != text:
                problems.append(f"{name}: not the template of the GGUF")
        else:
            problems += _differences(_json(path, problems), json.loads(text), f"{name}:")
    return problems


def _genai(export: Export) -> list[str]:
    problems: list[str] = []
    found = _json(export.folder / genai.FILE, problems)
    if found is None:
        return problems
    library = _inside(found, "model", "decoder", "session_options", "custom_ops_library")
    if not isinstance(library, str):
        library = None
    elif not (export.folder / library).is_file():
        problems.append(f"{quoted(library)}: missing; {genai.FILE} names it")
    graph = export.path.name
    if export.source is not None:
        text = genai.genai_config(export.config, graph, export.kv_dtype, export.tokenizer, library)
        ours, theirs = _of_the_model(found), _of_the_model(json.loads(text))
        problems += _differences(ours, theirs, f"{genai.FILE}: model")
    elif _inside(found, "model", "decoder", "filename") != graph:
        problems.append(f"{genai.FILE}: model.decoder.filename -> {graph}")
    return problems


def _of_the_model(content: dict[str, Any]) -> dict[str, Any]:
    """What a model leaves no choice in: how it is searched and run is for whoever runs it."""
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("decoder"), dict):
        return {}
    decoder = {key: value for key, value in model["decoder"].items() if key != "session_options"}
    return {**model, "decoder": decoder}


def _inside(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _text(path: Path, problems: list[str]) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        problems.append(f"{path.name}: missing -> as ferrum-build wrote it")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.append(f"{path.name} cannot be read: not UTF-8 at byte {error.start}")
    return None


def _json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    text = _text(path, problems)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return None
    if isinstance(content, dict):
        return content
    problems.append(f"{path.name}: {type(content).__name__} -> an object")
    return None


def _differences(found: Any, wanted: Any, where: str, depth: int = _DEPTH) -> Iterator[str]:
    """The keys that differ, from `where` down."""
    if found == wanted:
        return
    if depth and isinstance(found, dict) and isinstance(wanted, dict):
        separator = " " if where.endswith(":") else "."
        for key in sorted(found.keys() | wanted.keys()):
            below = f"{where}{separator}{key}"
            yield from _differences(found.get(key), wanted.get(key), below, depth - 1)
    else:
        yield f"{where} {_short(found)} -> {_short(wanted)}, as the GGUF says"


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"{len(value)} entries"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
