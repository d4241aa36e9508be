"""ONNX graphs to TensorRT and TensorRT-RTX engines."""
