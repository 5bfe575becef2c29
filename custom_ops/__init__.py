"""The op contracts and the native library behind them."""
