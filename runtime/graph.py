"""The exported graph as an ONNX Runtime session, loaded as the settings say."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ferrum.custom_ops.library import register
from ferrum.runtime.artifact import Artifact, ArtifactError, Manifest
from ferrum.runtime.cuda import cuda_session, out_of_memory, require_cuda
from ferrum.runtime.cudart import cuda_runtime
from ferrum.runtime.settings import Settings, SettingsError
from ferrum.runtime.weight_pages import WeightPages

INPUTS = {
    "input_ids": "tensor(int64)",
    "cumulative_sequence_lengths": "tensor(int32)",
    "past_sequence_lengths": "tensor(int32)",
    "block_table": "tensor(int32)",
}
LOGITS = "logits"
_CODES = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


@dataclass(frozen=True)
class CacheName:
    """One cache of one layer: its input and the output that is the same buffer."""

    past: str
    present: str


def cache_names(layers: int) -> list[CacheName]:
    """Key and value caches of all layers, in order."""
    return [
        CacheName(f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}")
        for layer in range(layers)
        for kind in ("key", "value")
    ]


class Graph:
    """A loaded graph. Weights are mapped from their files, not read."""

    def __init__(
        self,
        session: ort.InferenceSession,
        manifest: Manifest,
        pages: WeightPages,
        captured: tuple[str, ...] = (),
        *,
        cuda_graphs: bool = False,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """`turn` is for whatever uses the device, where that is for one at a time."""
        self.session, self.manifest = session, manifest
        self.pages = pages  # of the weights, as they were before the graph was loaded
        self.caches = cache_names(manifest.model.layers)
        self.captured = captured  # outputs beyond logits and caches
        self.cuda_graphs = cuda_graphs  # whether steps can be captured and replayed
        self.turn = nullcontext() if turn is None else turn

    def close(self) -> None:
        """Give back what the session has; it ends with the last binding of its."""
        del self.session

    @classmethod
    def load(cls, artifact: Artifact, settings: Settings) -> Graph:
        """The graph of an export.

        ArtifactError where ONNX Runtime refuses it or it is not the manifest's, SettingsError
        where the library refuses a setting or there is no such device.
        """
        return cls._load(artifact, settings, str(artifact.path), {}, ())

    @classmethod
    def capturing(
        cls, artifact: Artifact, settings: Settings, model: bytes, captured: tuple[str, ...]
    ) -> Graph:
        """`model`, a variant of the export's graph that has `captured` as further outputs."""
        entry = "session.model_external_initializers_file_folder_path"
        entries = {entry: str(artifact.path.parent.absolute())}
        return cls._load(artifact, settings, model, entries, captured)

    @classmethod
    def _load(cls, artifact: Artifact, settings: Settings, model: str | bytes,
              entries: dict[str, str], captured: tuple[str, ...]) -> Graph:  # fmt: skip
        pages = WeightPages.of(artifact.weights)
        on_gpu, cpu_experts = settings.device == "cuda", artifact.manifest.graph.cpu_experts
        if on_gpu:
            require_cuda()
        if not on_gpu or cpu_experts:
            # Not `but`, which refuses it beside a GPU: only experts on the CPU have a use for it.
            settings = settings.model_copy(update={"page_in": pages.way(settings.page_in)})
        # What is captured for a trace has shapes of its own in every step, and ONNX Runtime
        # captures nothing that waits for the CPU.
        graphs = on_gpu and settings.cuda_graphs and not captured and not cpu_experts
        options = session_options(settings)
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        try:
            if on_gpu:
                session = cuda_session(model, options, graphs=graphs, cpu_experts=cpu_experts)
            else:
                session = _cpu_session(model, options, settings)
        except SettingsError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise _refused(artifact, on_gpu, error) from error
        _check(artifact.path, session, artifact.manifest)
        turn = cuda_runtime().turn if on_gpu else None
        return cls(session, artifact.manifest, pages, captured, cuda_graphs=graphs, turn=turn)


def _refused(artifact: Artifact, on_gpu: bool, error: Exception) -> ValueError:
    if on_gpu and out_of_memory(error):
        size = sum(file.bytes for file in artifact.manifest.source.files)
        free = cuda_runtime().free_memory()
        return SettingsError(
            f"[settings] device, got 'cuda', but the GPU has too little memory for "
            f"{size / 1e9:.1f} GB of weights, with {free / 1e9:.1f} GB free -> "
            "ferrum-build --cpu-experts leaves some to the CPU"
        )
    return ArtifactError(f"[{artifact.path}] ONNX Runtime refuses it: {one_line(error)}")


def _cpu_session(
    model: str | bytes, options: ort.SessionOptions, settings: Settings
) -> ort.InferenceSession:
    # Folding constants would decode every weight to float32 when the ops are ordinary ones.
    keep_packed = ["ConstantFolding"] if settings.kernels == "reference" else []
    return ort.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=keep_packed
    )


def session_options(settings: Settings) -> ort.SessionOptions:
    """ONNX Runtime's options for these settings, the library registered.

    SettingsError where the library refuses one: an instruction set that the machine lacks.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 4  # errors are raised; logged besides, they would come twice
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "1" if settings.spin else "0"
    )
    if settings.trace_out is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.trace_out.absolute()) + ".ort"
    if settings.kernels == "native":
        _register(options, settings)
    return options


def _register(options: ort.SessionOptions, settings: Settings) -> None:
    try:
        register(
            options,
            arithmetic=settings.arithmetic,
            isa=settings.isa,
            moe_path=settings.moe_path,
            moe_few_max=settings.moe_few_max,
            moe_block_size=settings.moe_block_size,
            moe_gate_up=settings.moe_gate_up,
            route=settings.route,
            page_in="experts" if settings.page_in == "experts" else "faults",
            profile=settings.profile,
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise SettingsError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """What ONNX Runtime says, without the codes that it puts in front."""
    return _CODES.sub("", " ".join(str(error).split()))


def _check(path: Path, session: ort.InferenceSession, manifest: Manifest) -> None:
    """The graph has the inputs and outputs that the manifest's model calls for."""
    model = manifest.model
    inputs = {port.name: port for port in session.get_inputs()}
    outputs = {port.name: port for port in session.get_outputs()}
    dtype = {"float32": "float"}.get(manifest.graph.kv_dtype, manifest.graph.kv_dtype)
    caches = cache_names(model.layers)
    wanted = {**INPUTS, **{cache.past: f"tensor({dtype})" for cache in caches}}
    for name, kind in wanted.items():
        _check_port(path, inputs.get(name), "input", name, kind)
    for cache in caches:
        _check_port(path, outputs.get(cache.present), "output", cache.present, f"tensor({dtype})")
        if list(inputs[cache.past].shape[2:]) != [model.kv_heads, model.head_dim]:
            raise ArtifactError(
                f"[{path}] {cache.past} has shape {inputs[cache.past].shape} -> "
                f"[blocks, block_size, {model.kv_heads}, {model.head_dim}] as in ferrum.json"
            )
    _check_port(path, outputs.get(LOGITS), "output", LOGITS, "tensor(float)")
    if outputs[LOGITS].shape[1:] != [model.vocabulary]:
        raise ArtifactError(
            f"[{path}] logits have shape {outputs[LOGITS].shape} -> "
            f"[sequences, {model.vocabulary}] as in ferrum.json"
        )
    if extra := sorted(set(inputs) - set(wanted)):
        raise ArtifactError(f"[{path}] inputs that the runtime does not know: {', '.join(extra)}")


def _check_port(path: Path, port: Any, what: str, name: str, kind: str) -> None:
    if port is None:
        raise ArtifactError(f"[{path}] has no {what} {name} -> a graph written by ferrum-build")
    if port.type != kind:
        raise ArtifactError(f"[{path}] {what} {name} is {port.type} -> {kind} as in ferrum.json")
