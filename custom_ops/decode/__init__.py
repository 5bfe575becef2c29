"""The reference decoders: one function per ggml type, in standard ONNX ops."""
