"""MViTv2's attention as one custom operator, for ONNX Runtime on the CPU (`dtfsal.engines.native.cpu_kernels`).

`dtfsal::PooledAttention` is all between the two linear layers: pooling, normalisation, scores with relative positions,
softmax, values, residual. Standard operators move each of its tensors between layouts, and carry the positions as
columns of the inner product, a quarter more work.
"""

import torch
from torch import Tensor, nn

from dtfsal.engines.native.cpu_kernels import DOMAIN, HEAD_DIM_MULTIPLE, POOLED_ATTENTION
from dtfsal.training.model.encoders.mvit import Grid, HeadPool, MultiscaleAttention


class FusedAttention(nn.Module):
    """A `MultiscaleAttention` whose inside is one operator; for the nominal size of its clip.

    Args:
        attention: its layers are shared, the rest of its weights is re-arranged.
    """

    pools: Tensor
    norms: Tensor
    positions_t: Tensor
    positions_h: Tensor
    positions_w: Tensor

    def __init__(self, attention: MultiscaleAttention) -> None:
        super().__init__()
        self.heads, self.q_grid = attention.heads, attention.nominal_grids[0]
        self.qkv, self.project = attention.qkv, attention.project
        pools = (attention.pool_q, attention.pool_k, attention.pool_v)
        self.q_stride, self.kv_stride = attention.pool_q.stride, attention.pool_k.stride
        taps = [pool.pool.weight.detach().flatten(1).T for pool in pools]  # (d, 1, 3, 3, 3) -> (27, d)
        self.register_buffer("pools", torch.stack(taps).contiguous())  # (3, 27, d)
        self.register_buffer("norms", torch.stack([_scale_and_shift(pool) for pool in pools]))  # (3, 2, d)
        self.epsilon = _norm(attention.pool_q).eps
        for axis in "thw":
            table, index = getattr(attention, f"rel_pos_{axis}"), getattr(attention, f"index_{axis}")
            self.register_buffer(f"positions_{axis}", table.detach()[index])  # (queries, keys, d) along the axis

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """See `MultiscaleAttention.forward`."""
        qkv = self.qkv(x)
        tokens = 1 + self.q_grid[0] * self.q_grid[1] * self.q_grid[2]
        attended = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{POOLED_ATTENTION}",
            (qkv, self.pools, self.norms, self.positions_t, self.positions_h, self.positions_w),
            {
                "times": grid[0],
                "rows": grid[1],
                "columns": grid[2],
                "heads": self.heads,
                "q_stride": self.q_stride,
                "kv_stride": self.kv_stride,
                "epsilon": self.epsilon,
            },
            dtype=qkv.dtype,
            shape=(qkv.shape[0], tokens, qkv.shape[2] // 3),
            version=1,
        )
        return self.project(attended), self.q_grid


def can_fuse(attention: MultiscaleAttention) -> bool:
    """Whether the operator takes a head of this width."""
    return attention.head_dim % HEAD_DIM_MULTIPLE == 0


def _norm(pool: HeadPool) -> nn.LayerNorm:
    norm = pool.norm_act[0]
    assert isinstance(norm, nn.LayerNorm)
    return norm


def _scale_and_shift(pool: HeadPool) -> Tensor:
    norm = _norm(pool)
    return torch.stack((norm.weight, norm.bias)).detach()
