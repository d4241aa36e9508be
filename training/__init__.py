"""The model in PyTorch, and all that makes weights.

The model is imported when it is first asked for: the commands of this room are listed without PyTorch.
"""

from typing import TYPE_CHECKING, Any

from dtfsal.training.model.config import PRESETS, AudioBranchConfig, ModelConfig, MViTConfig

if TYPE_CHECKING:
    from dtfsal.training.model.network import DTFSal, build_model

__all__ = ["PRESETS", "AudioBranchConfig", "DTFSal", "MViTConfig", "ModelConfig", "build_model"]


def __getattr__(name: str) -> Any:
    if name in ("DTFSal", "build_model"):
        from dtfsal.training.model import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
