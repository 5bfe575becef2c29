"""The op contracts and the native library behind them."""

from ferrum.custom_ops.library import library_path, register

__all__ = ["library_path", "register"]
