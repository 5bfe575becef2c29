"""How a model is run: one strict object, from a constructor, the environment or a command line.

An argument (of the constructor, or an option of ferrum-run) wins over the environment variable
FERRUM_<NAME>, which wins over the default. A name that is not a field, or a value that is not
allowed, raises SettingsError; nothing is ignored.

Settings that only change how fast a step runs never change which tokens come out; those of which
kernels run (arithmetic, isa, route, kernels) may, where two tokens are almost equally likely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ferrum.custom_ops.library import Arithmetic, BlockSize, GateUp, Isa, MoePath, Route
from ferrum.runtime.strict_settings import SettingsError as SettingsError
from ferrum.runtime.strict_settings import StrictSettings, comma_separated

_GPU_STEP_TOKENS = 2048
# Settings that a GPU has no use for, and what they are beside one.
_CPU_ONLY = {"kernels": "native", "isa": "auto", "page_in": "auto"}


class Settings(StrictSettings):
    """All settings with their defaults; names in [brackets] are the source systems' switches."""

    prefix: ClassVar[str] = "FERRUM_"
    # The library's own path, the tests' data, the server's settings.
    others: ClassVar[tuple[str, ...]] = ("FERRUM_LIBRARY", "FERRUM_SHARED_DATA", "FERRUM_SERVE_")

    device: Literal["cpu", "cuda"] = Field(
        "cpu",
        description="where the model runs; cuda needs a GPU and the package onnxruntime-gpu in "
        "place of onnxruntime, and takes the first of CUDA_VISIBLE_DEVICES",
    )
    cuda_graphs: bool = Field(
        True,
        description="on a GPU, capture a decode step's launches once and replay them: faster "
        "steps, but for the first of each shape",
    )
    kernels: Literal["native", "reference"] = Field(
        "native",
        description="native runs ferrum's library; reference runs the ops' bodies in standard "
        "ONNX ops on ONNX Runtime alone, slowly",
    )
    arithmetic: Arithmetic = Field(
        "fast",
        description="fast multiplies activations in int8 blocks or, with BF16 weights, in bfloat16 "
        "where the CPU can; exact in float32; the two may differ where two tokens are almost "
        "equally likely; beside a GPU it is for experts that stay on the CPU",
    )
    isa: Isa = Field(
        "auto",
        description="the instruction set of the kernels; auto asks the CPU; with fast arithmetic "
        "they may differ where two tokens are almost equally likely",
    )
    moe_path: MoePath = Field(
        "auto",
        description="force QuantMoE's way for one token, for few, or grouped by expert "
        "[MOE_BATCHED, MOE_BATCHED_DECODE]",
    )
    moe_few_max: int | None = Field(
        None,
        ge=0,
        le=999_999_999,
        description="with moe_path auto, steps of more tokens are grouped by expert; by default "
        "32, and on a GPU as many as have 64 (token, slot) pairs "
        "[MOE_BATCH_THRESHOLD, MOE_PREFILL_THRESHOLD]",
    )
    moe_block_size: BlockSize = Field(
        "auto",
        description="on a GPU, how many of an expert's sorted (token, slot) pairs make a tile of "
        "its grouped products; auto goes by how many pairs there are",
    )
    moe_gate_up: GateUp = Field(
        "fused",
        description="unfused runs gate, up and SiLU as loops of their own [MOE_FUSED_GATE_UP_SILU]",
    )
    route: Route = Field(
        "graph",
        description="host leaves the choice of experts to ONNX Runtime's standard ops, whose last "
        "bits differ [MOE_HOST_TOPK, MOE_HOST_ROUTE]",
    )
    page_in: Literal["auto", "faults", "experts"] = Field(
        "auto",
        description="how weights that are not in memory get there from the disk: experts asks for "
        "all experts that a layer has chosen at once, faults waits for each page as it is touched; "
        "auto asks where there is no room for all weights",
    )
    threads: int = Field(
        0, ge=0, le=4096, description="threads of a step; 0 is one per physical core"
    )
    spin: bool = Field(
        True,
        description="let idle threads spin between ops: faster steps, but a busy CPU; turn off "
        "where other programs need the cores",
    )
    kv_capacity: int | None = Field(
        None,
        ge=1,
        lt=1 << 31,
        description="tokens that the KV caches hold, over all sequences [KV_CAPACITY]; by default "
        "max_sequences contexts, as far as a quarter of the free memory goes, or most of a GPU's",
    )
    block_size: int = Field(32, ge=1, le=4096, description="tokens per block of the KV caches")
    max_sequences: int = Field(
        16, ge=1, le=4096, description="most sequences that run at a time [PAGED_MAX_SEQS]"
    )
    step_tokens: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="most tokens in a step: decodes first, then pieces of prompts; 2048 on a GPU "
        "that is told nothing else",
    )
    prefix_reuse: bool = Field(
        True,
        description="keep full blocks for prompts that begin alike, which then skip what is there; "
        "off computes every prompt anew",
    )
    check_blocks: bool = Field(
        False,
        description="after every step check that each block is owned once, or shared and full, and "
        "that none is lost; for tests, slow",
    )
    speculate: int = Field(
        0,
        ge=0,
        le=64,
        description="most tokens per sequence and step that are guessed from the sequence's own "
        "text and verified together; 0 guesses none",
    )
    profile: bool = Field(
        False, description="time a step's stages [MOE_PROFILE, DECODE_OP_PROFILE]"
    )
    trace_out: Path | None = Field(
        None, description="write a Chrome trace of steps and nodes to this file [TRACE_OUT]"
    )
    trace: tuple[str, ...] = Field(
        (),
        description="keep the graph's values of these names, such as blk.0.expert_ids or "
        "'blk.*.output'; comma-separated, * and ? allowed",
    )
    expert_load: bool = Field(
        False, description="count how often each expert of each layer is chosen [MOE_LOAD_TRACE]"
    )

    def __init__(self, **values: Any) -> None:
        if values.get("device") == "cuda":  # whose experts want more tokens each to be busy
            values.setdefault("step_tokens", _GPU_STEP_TOKENS)
        super().__init__(**values)

    @field_validator("trace", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return comma_separated(value)

    @field_validator("trace_out", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _steps_hold_every_decode(self) -> Settings:
        if self.step_tokens < self.max_sequences:
            raise ValueError(
                f"step_tokens, got {self.step_tokens} -> at least max_sequences "
                f"({self.max_sequences}), so that every sequence can advance in a step"
            )
        return self

    @model_validator(mode="after")
    def _gpus_have_none_of_these(self) -> Settings:
        for name, wanted in _CPU_ONLY.items():
            if self.device == "cuda" and getattr(self, name) != wanted:
                raise ValueError(
                    f"{name}, got {getattr(self, name)!r} -> {wanted!r} with device 'cuda'"
                )
        return self
