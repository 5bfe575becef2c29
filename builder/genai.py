"""genai_config.json: what onnxruntime-genai's paged engine must be told of an export.

Keys and limits are those of onnxruntime-genai 0.18; it refuses a file with a key that it does not
know, so ferrum's own facts are in ferrum.json.
"""

from __future__ import annotations

import json
from typing import Any

from ferrum.builder.tokenizer import Tokenizer
from ferrum.models.qwen3_moe.config import Qwen3MoeConfig

FILE = "genai_config.json"
BLOCK_SIZE = 32
MAX_BATCH = 16
_CACHE_BYTES = 1 << 30  # the cache that genai allocates at start, unless the context is small
_CACHE_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def genai_config(
    config: Qwen3MoeConfig,
    graph_file: str,
    kv_dtype: str,
    tokenizer: Tokenizer,
    library: str | None,
) -> str:
    """The text of genai_config.json; `library` is the ops library's name in the same folder."""
    pad = tokenizer.pad if tokenizer.pad is not None else (tokenizer.eos or (0,))[0]
    model: dict[str, Any] = {
        # genai knows neither qwen3moe nor qwen3_moe; the type only selects how it decodes.
        "type": "qwen3",
        "bos_token_id": tokenizer.bos if tokenizer.bos is not None else pad,
        "eos_token_id": list(tokenizer.eos) or pad,
        "pad_token_id": pad,
        "vocab_size": config.vocabulary,
        "context_length": config.context_length,
        "decoder": {
            "session_options": _session_options(library),
            "filename": graph_file,
            "head_size": config.head_dim,
            "hidden_size": config.hidden,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "num_hidden_layers": config.layers,
            "inputs": {},
            "outputs": {},
        },
    }
    batching = {
        "block_size": BLOCK_SIZE,
        "num_blocks": cache_blocks(config, kv_dtype),
        "max_batch_size": MAX_BATCH,
    }
    content = {
        "model": model,
        "search": {"max_length": config.context_length, "do_sample": False},
        "engine": {"dynamic_batching": batching},
    }
    return json.dumps(content, indent=1) + "\n"


def _session_options(library: str | None) -> dict[str, str]:
    if library is not None:
        return {"custom_ops_library": library}
    # The reference bodies run; folding constants would decode every weight to float32 at load.
    return {"optimization.disable_specified_optimizers": "ConstantFolding"}


def cache_blocks(config: Qwen3MoeConfig, kv_dtype: str) -> int:
    """Blocks per layer: a gigabyte's worth, but one short request and at most four full ones."""
    item = _CACHE_ITEM_BYTES[kv_dtype]
    per_token = 2 * config.layers * config.kv_heads * config.head_dim * item
    tokens = _CACHE_BYTES // per_token
    least = min(config.context_length, 4096)
    most = 4 * config.context_length
    return -(-min(max(tokens, least), most) // BLOCK_SIZE)
