"""Simplified graphs, against the library's own optimiser."""

import onnx_ir
import onnxscript.optimizer
import torch
from torch import nn

from dtfsal.export.graph.conversion import OPSET
from dtfsal.export.graph.simplification import simplify


class Wordy(nn.Module):
    """Says in many operators what a few would."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        x = self.conv(nn.functional.pad(x, (1, 1, 1, 1)))
        x = x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)  # the same again
        x = x.reshape(4, -1).reshape(1, 4, 8, 8) * 1.0 + torch.ones(()).exp()
        return x.unsqueeze(0).unsqueeze(0) + (x + 1) * (x + 1)


def exported():
    program = torch.onnx.export(
        Wordy().eval(), (torch.ones(1, 3, 8, 8),), dynamo=True, opset_version=OPSET, optimize=False
    )
    return onnx_ir.to_proto(program.model)


def test_it_is_what_the_library_makes_in_fewer_comparisons():
    wordy = exported()
    ours, theirs = onnx_ir.from_proto(wordy), onnx_ir.from_proto(wordy)
    simplify(ours)
    onnxscript.optimizer.optimize(theirs)
    ours, theirs = onnx_ir.to_proto(ours), onnx_ir.to_proto(theirs)
    assert len(ours.graph.node) < len(wordy.graph.node)
    assert [node.op_type for node in ours.graph.node].count("Transpose") == 0
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
