"""The proof of an export: named checks of an .onnx that ferrum-build wrote."""
