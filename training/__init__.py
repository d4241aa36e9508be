"""The model in PyTorch, and all that makes weights."""

from dtfsal.training.config import PRESETS, AudioBranchConfig, ModelConfig, MViTConfig
from dtfsal.training.model import DTFSal, build_model

__all__ = ["PRESETS", "AudioBranchConfig", "DTFSal", "MViTConfig", "ModelConfig", "build_model"]
