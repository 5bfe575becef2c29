"""Drives an exported graph: caches, batches, sampling, text."""
