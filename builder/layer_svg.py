"""One layer's dataflow with shapes, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ferrum.builder.survey import Survey
from ferrum.custom_ops.quants import QUANTS
from ferrum.models.qwen3_moe.names import FINAL_NORM

_WIDTH, _ROW, _TOP = 960, 112, 110
_OP_X, _OP_WIDTH, _OP_HEIGHT = 250, 230, 54
_WEIGHTS_X, _WEIGHTS_WIDTH, _WEIGHT_HEIGHT = 560, 376, 22
_RESIDUAL_X, _BYPASS_X = 60, 190
_MIDDLE = _OP_X + _OP_WIDTH // 2
_EXPERTS = ("QuantMoE", "HostQuantMoE")  # the latter beside a GPU, on the CPU

_STYLE = """
text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #1b2733 }
.title { font-size: 19px; font-weight: 600 } .note { fill: #5b6b7a }
.op { fill: #dceaf7; stroke: #2b6cb0; stroke-width: 1.5 } .name { font-weight: 600 }
.weight { fill: #fdf1d8; stroke: #b7791f } .state { fill: #e3f4e4; stroke: #2f855a }
.weight-text { font-size: 12px } .shape { font-size: 12px; fill: #44546a }
.flow { fill: none; stroke: #2b6cb0; stroke-width: 1.6; marker-end: url(#tip) }
.residual { fill: none; stroke: #9b2c2c; stroke-width: 2.2; marker-end: url(#red) }
.feed { fill: none; stroke: #b7791f; stroke-width: 1.2; marker-end: url(#gold) }
"""


@dataclass(frozen=True)
class Step:
    """One op: what it is called, what it reads from the side, what flows on below it."""

    op: str
    name: str
    weights: tuple[str, ...]
    out: str
    state: tuple[str, ...] = ()


def layer_svg(survey: Survey, layer: int) -> str:
    """The picture of one layer; T is the number of tokens in the step."""
    steps = _steps(survey, layer)
    height = _TOP + len(steps) * _ROW + 24
    c = survey.config
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        f"<title>Layer {layer} of {escape(c.name or survey.path.name)}</title>",
        f"<style>{_STYLE}</style>",
        "<defs>" + _tip("tip", "#2b6cb0") + _tip("red", "#9b2c2c") + _tip("gold", "#b7791f"),
        "</defs>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(24, 34, f"{c.name or survey.path.name}: layer {layer} of {c.layers}", "title"),
        _text(24, 56, "T tokens in the step; shapes of weights are rows of values", "note"),
        _text(_MIDDLE + 12, _TOP - 16, f"blk.{layer}.input [T, {c.hidden}]", "shape"),
        _text(_RESIDUAL_X - 36, _TOP - 16, f"residual [T, {c.hidden}]", "shape"),
        _path(f"M{_MIDDLE} {_TOP - 30} V{_TOP}", "flow"),
    ]
    for row, step in enumerate(steps):
        parts += _row(step, _TOP + row * _ROW)
    parts += _streams(steps)
    return "\n".join([*parts, "</svg>", ""])


def _steps(survey: Survey, layer: int) -> list[Step]:
    c, at = survey.config, f"blk.{layer}."
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim

    def weights(*names: str) -> tuple[str, ...]:
        return tuple(_weight(survey, at + name + ".weight") for name in names)

    on_cpu = () if survey.transfers is None else survey.transfers.nodes
    experts = _EXPERTS[f"{at}moe" in [node.name for node in on_cpu]]
    dtype = "float32" if survey.graph is None else survey.graph["activation_dtype"]
    router = "QuantMatMul" if dtype == "float32" else "QuantLogits"
    last = layer + 1 == c.layers
    next_norm = FINAL_NORM if last else f"blk.{layer + 1}.attn_norm.weight"
    cache = f"[blocks, block size, {c.kv_heads}, {c.head_dim}] {survey.kv_dtype}"
    return [
        Step("QuantQKV", "qkv", weights("attn_q", "attn_k", "attn_v"),
             f"q [T, {q}], k and v [T, {kv}]"),
        Step("PagedAttention", f"{c.heads} query, {c.kv_heads} key/value heads",
             weights("attn_q_norm", "attn_k_norm"), f"[T, {q}]",
             (f"inv_freq [{c.head_dim // 2}]", f"key, value caches  {cache}")),
        Step("QuantMatMul", "o", weights("attn_output"), f"[T, {c.hidden}]"),
        Step("AddRMSNorm", "+ residual, norm", weights("ffn_norm"), f"[T, {c.hidden}]"),
        Step(router, "router", weights("ffn_gate_inp"), f"[T, {c.experts}]"),
        Step("RouteTopK", f"{c.experts_per_token} of {c.experts}", (),
             f"weights, ids [T, {c.experts_per_token}]"),
        Step(experts, f"{c.experts_per_token} experts, summed",
             weights("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"), f"[T, {c.hidden}]"),
        Step("AddRMSNorm", "+ residual, norm" + (", last rows only" if last else ""),
             (_weight(survey, next_norm),),
             f"final [sequences, {c.hidden}]" if last
             else f"blk.{layer + 1}.input [T, {c.hidden}]"),
    ]  # fmt: skip


def _weight(survey: Survey, name: str) -> str:
    tensor = survey.tensors[name]
    shape = ", ".join(map(str, tensor.shape[::-1]))
    short = name.split(".", 2)[2] if name.startswith("blk.") else name
    return f"{short.removesuffix('.weight')} [{shape}] {QUANTS.by_id(tensor.type).name}"


def _row(step: Step, y: int) -> list[str]:
    """The op's box, what feeds it from the right, and the edge below with its shape."""
    side = [(text, "weight") for text in step.weights] + [(text, "state") for text in step.state]
    top = y + _OP_HEIGHT / 2 - len(side) * (_WEIGHT_HEIGHT + 3) / 2
    parts = [
        f'<rect class="op" x="{_OP_X}" y="{y}" width="{_OP_WIDTH}" height="{_OP_HEIGHT}" rx="7"/>',
        _text(_MIDDLE, y + 23, step.op, "name", "middle"),
        _text(_MIDDLE, y + 42, step.name, "note", "middle"),
        _path(f"M{_MIDDLE} {y + _OP_HEIGHT} V{y + _ROW}", "flow"),
        _text(_MIDDLE + 12, y + _OP_HEIGHT + 34, step.out, "shape"),
    ]
    for i, (text, kind) in enumerate(side):
        at = top + i * (_WEIGHT_HEIGHT + 3)
        parts += [
            f'<rect class="{kind}" x="{_WEIGHTS_X}" y="{at:g}" width="{_WEIGHTS_WIDTH}" '
            f'height="{_WEIGHT_HEIGHT}" rx="4"/>',
            _text(_WEIGHTS_X + 8, at + 15.5, text, "weight-text"),
        ]
    if side:
        parts.append(
            _path(f"M{_WEIGHTS_X} {y + _OP_HEIGHT / 2:g} H{_OP_X + _OP_WIDTH + 1}", "feed")
        )
    return parts


def _streams(steps: Sequence[Step]) -> list[str]:
    """The residual stream down the left, and the normed rows that pass by the router."""
    names = [step.op for step in steps]
    adds = [i for i, name in enumerate(names) if name == "AddRMSNorm"]
    centre = [_TOP + i * _ROW + _OP_HEIGHT // 2 for i in range(len(steps))]
    below = centre[adds[0]] + _OP_HEIGHT // 2 + 22
    end = centre[adds[1]]
    (experts,) = (at for at, step in zip(centre, steps, strict=True) if step.op in _EXPERTS)
    return [
        _path(f"M{_RESIDUAL_X} {_TOP - 8} V{centre[adds[0]] - 8} H{_OP_X - 1}", "residual"),
        _path(f"M{_OP_X} {centre[adds[0]] + 10} H{_RESIDUAL_X} V{end - 8} H{_OP_X - 1}",
              "residual"),
        _text(_RESIDUAL_X + 8, centre[adds[0]] + 28, "sum", "shape"),
        _path(f"M{_OP_X} {end + 10} H{_RESIDUAL_X} V{end + _ROW - _OP_HEIGHT // 2}", "residual"),
        _text(_RESIDUAL_X + 8, end + 28, "sum", "shape"),
        _path(f"M{_MIDDLE} {below} H{_BYPASS_X} V{experts} H{_OP_X - 1}", "flow"),
    ]  # fmt: skip


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(d: str, kind: str) -> str:
    return f'<path class="{kind}" d="{d}"/>'


def _tip(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/>'
        "</marker>"
    )
