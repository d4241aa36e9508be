"""Exports of the tiny presets, each made once: an export takes some ten seconds whatever the model's size."""

import functools

import pytest

from dtfsal.export.graph.conversion import to_onnx
from dtfsal.export.precision.half import to_reduced
from dtfsal.export.request import FORMS
from dtfsal.training.model.precision import declared_precisions
from dtfsal.training.model.seeded import seeded_model


@pytest.fixture(scope="session")
def model_of():
    """preset -> the seeded model."""
    return functools.cache(seeded_model)


@pytest.fixture(scope="session")
def graph_of(model_of):
    """(preset, target, precision) -> the ONNX graph; FP16 graphs are conversions of the FP32 one of their forms."""

    @functools.cache
    def in_fp32(preset, forms):
        return to_onnx(model_of(preset), forms)

    @functools.cache
    def make(preset, target, precision):
        graph = in_fp32(preset, FORMS[target][precision])
        if precision in ("fp32", "tf32"):
            return graph
        return to_reduced(graph, precision, declared_precisions(model_of(preset)))

    return make
