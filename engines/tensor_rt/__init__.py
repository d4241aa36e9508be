"""The TensorRT and TensorRT-RTX back ends."""
