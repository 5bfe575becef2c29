"""Qwen3-MoE: metadata to config, config to graph."""
