"""OPS.md of the contracts and quant table: `python -m ferrum.custom_ops.ops_page > OPS.md`."""

from __future__ import annotations

from collections.abc import Iterable

from ferrum.custom_ops.contract import DOMAIN, VERSION, Op
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.quants import QUANTS

_HEAD = f"""# The ops of the domain `{DOMAIN}`, version {VERSION}

Made by `python -m ferrum.custom_ops.ops_page` from the contracts in `custom_ops/ops/`; a test
compares the two. T: tokens in the step, B: sequences, H: hidden, Hq and Hkv: query and key/value
heads, D: head size, E: experts, k: chosen, I: expert width, V: vocabulary. `f` is the graph's
activation type, `cache` the caches' type. `uint8 blocks` are rows of ggml blocks, each row
`columns / block * bytes` long.
"""

_PLANES = """## Layouts in planes

Types of their own, which no GGUF has: a matrix of the same shape with its blocks' very bytes, all
first fields, then all second ones, and so on, each row by row and block by block. A stack is one
such matrix after the other. Every plane must be whole pieces of 16 bytes long. QuantGather, which
reads single rows, takes none.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_op(op) for op in OPS.values()), _types(), _PLANES, _planes()])


def _op(op: Op) -> str:
    ports = [("input", port.name, port.dtype, port.shape) for port in op.inputs] + [
        ("output", port.name, port.dtype, port.shape) for port in op.outputs
    ]
    attributes = [("attribute", a.name, a.kind.__name__, a.doc) for a in op.attributes]
    return f"## {op.name}\n\nSince version {op.since}. {op.doc}\n\n" + _table(
        ("", "name", "type", "shape or meaning"), [*ports, *attributes]
    )


def _types() -> str:
    rows = [(q.name, str(q.id), str(q.block), str(q.bytes)) for q in QUANTS]
    return "## ggml types\n\n" + _table(("name", "id", "values a block", "bytes a block"), rows)


def _planes() -> str:
    rows = [
        (
            q.name,
            str(q.id),
            "" if q.blocks is None else q.blocks.name,
            ", ".join(map(str, q.fields)),
        )
        for q in QUANTS.planes
    ]
    return _table(("name", "id", "blocks of", "bytes of the fields"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


if __name__ == "__main__":
    print(page(), end="")
