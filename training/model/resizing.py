"""Weights made for one clip length and frame size, brought to another.

What depends on them are tables over positions, which are interpolated as the model does with a clip that it was not
made for: MViTv2's relative positions, and the sound's weights of pitches with their sum kept. The fusion's token maps
are enlarged to each level's grid in any case, and stay.
"""

from collections.abc import Mapping

from torch import Tensor

from dtfsal.training.model.audio import resize_rows
from dtfsal.training.model.encoders.mvit import resize_table


def resized_tensors(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose tables over positions have the shapes that a model of another size has.

    Args:
        tensors: a model's state dict.
        wanted: the other model's, for its shapes.

    Returns:
        A new one; tensors that are not such tables, or have another width, are unchanged.
    """
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name not in wanted or wanted[name].shape == tensor.shape or wanted[name].ndim != tensor.ndim:
            continue
        shape, leaf = wanted[name].shape, name.rpartition(".")[2]
        if leaf in ("rel_pos_t", "rel_pos_h", "rel_pos_w"):  # (L, d)
            found[name] = resize_table(tensor, shape[0])
        elif leaf == "pitches":  # (C*, w)
            found[name] = resize_rows(tensor, shape[1])
    return found
