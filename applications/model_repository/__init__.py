"""A model repository for NVIDIA's Triton Inference Server, made of an engine."""
