"""An exported folder to what the runtime must know of it, checked: ferrum.json and the weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferrum.commands.journal import half_done

MANIFEST = "ferrum.json"

Count = Annotated[int, Field(ge=1, lt=1 << 63)]
FileName = Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]


class ArtifactError(ValueError):
    """A folder that is not an export of ferrum-build, or one that was damaged; one line."""


class _Part(BaseModel):
    # Keys that a newer builder adds are not in the way of an older runtime; `format` is.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Model(_Part):
    """Sizes of the model, as far as the runtime uses them."""

    architecture: str
    name: str
    layers: Count
    kv_heads: Count
    head_dim: Count
    experts: Count
    vocabulary: Count
    context_length: Count


class GraphFile(_Part):
    file: FileName
    kv_dtype: Literal["float32", "float16", "bfloat16"]
    # Layers whose experts run on the CPU beside a GPU; graphs of older builders have none.
    cpu_experts: Annotated[int, Field(ge=0)] = 0


class SourceFile(_Part):
    """A file of weights that the graph refers to, as it was when the graph was written."""

    file: FileName
    bytes: Count
    header_bytes: Count
    header_sha256: str


class Source(_Part):
    files: list[SourceFile]


class TokenizerFiles(_Part):
    file: FileName
    chat_template: FileName | None
    bos: int | None
    eos: list[int]
    pad: int | None
    add_bos: bool


class Manifest(_Part):
    """ferrum.json."""

    format: Literal[1]
    model: Model
    graph: GraphFile
    source: Source
    tokenizer: TokenizerFiles


class Artifact:
    """The folder of an export: where its files lie, and its manifest."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """Read and check the export whose .onnx, or whose folder, is `path`.

        ArtifactError where a file is missing, ferrum.json is damaged or of another format, or
        weights are not those that the graph was written for.
        """
        given = Path(path)
        if not given.exists():
            raise ArtifactError(f"[{given}] no such file -> an .onnx written by ferrum-build")
        folder = given if given.is_dir() else given.parent
        if half_done(folder):
            raise ArtifactError(
                f"[{folder}] a build here has not ended, or was killed half-way -> try again, or "
                "ferrum-build once more, which puts it right"
            )
        manifest = _read_manifest(folder, given)
        graph = folder / manifest.graph.file
        if not given.is_dir() and given.name != graph.name:
            raise ArtifactError(
                f"[{given}] {MANIFEST} beside it is of {graph.name} -> run that, or export anew "
                "into a folder of its own"
            )
        for name in (graph.name, manifest.tokenizer.file, manifest.tokenizer.chat_template):
            if name is not None and not (folder / name).is_file():
                raise ArtifactError(f"[{folder / name}] is missing; {MANIFEST} names it")
        for source in manifest.source.files:
            _check_source(folder, source)
        return cls(graph, manifest)

    @property
    def weights(self) -> list[Path]:
        """The files that hold the weights."""
        return [self.path.parent / source.file for source in self.manifest.source.files]

    @property
    def files(self) -> list[Path]:
        """All that belongs to the export, the weights too."""
        folder, template = self.path.parent, self.chat_template
        own = [self.path, folder / MANIFEST, self.tokenizer, *([template] if template else [])]
        return [*own, *self.weights]

    @property
    def tokenizer(self) -> Path:
        return self.path.parent / self.manifest.tokenizer.file

    @property
    def chat_template(self) -> Path | None:
        name = self.manifest.tokenizer.chat_template
        return None if name is None else self.path.parent / name


def _read_manifest(folder: Path, given: Path) -> Manifest:
    file = folder / MANIFEST
    if not file.is_file():
        raise ArtifactError(
            f"[{given}] no {MANIFEST} beside it -> an .onnx in the folder where ferrum-build "
            "wrote it"
        )
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise ArtifactError(f"[{file}] {message} -> export the model anew") from None
    except OSError as error:
        raise ArtifactError(f"[{file}] cannot be read: {error.strerror}") from None


def _check_source(folder: Path, source: SourceFile) -> None:
    """Size and header tell a replaced file; reading all of it would take minutes."""
    path = folder / source.file
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(source.header_bytes)
    except OSError as error:
        raise ArtifactError(
            f"[{path}] cannot be read: {error.strerror}; the graph's weights lie there"
        ) from None
    if size != source.bytes:
        raise ArtifactError(
            f"[{path}] {size:,} bytes, but the graph was written for one of {source.bytes:,} -> "
            "put that file back, or export anew"
        )
    if hashlib.sha256(header).hexdigest() != source.header_sha256:
        raise ArtifactError(
            f"[{path}] another header than the graph was written for -> put that file back, or "
            "export anew"
        )
