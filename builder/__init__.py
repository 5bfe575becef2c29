"""GGUF in, ONNX out."""
