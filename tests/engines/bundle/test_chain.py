"""Chains of graphs: what depends on which frames, by hand and by following it; and manifests that do not fit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec, ClipSpec, EngineMismatchError, GraphSpec, TensorSpec
from dtfsal.engines.bundle.chain import MOST_TAPS, chain_of_graphs, runs_of_window

CLIP, AUDIO = ClipSpec(frames=16, height=8, width=8), AudioSpec(slices=3, height=4, width=4)


def tensor(name, *shape):
    return TensorSpec(name, "float32", (1, *shape))


def graph(inputs, outputs, **taps):
    return GraphSpec("m.onnx", tuple(inputs), tuple(outputs), taps)


def a_chain():
    """Sums of three frames, sums of three such sums, two slices' worth of sound."""
    return {
        "head": graph([tensor("second", 3, 1), tensor("seen", 16, 1), tensor("level", 1)], [tensor("saliency_map", 1)],
                      second=(4, 8, 12), seen=tuple(range(16))),
        "sums": graph([tensor("first", 3, 1)], [tensor("second", 1)], first=(-2, 0, 2)),
        "sum": graph([tensor("seen", 3, 1)], [tensor("first", 1)], seen=(-1, 0, 1)),
        "frame": graph([tensor("frame", 3, 8, 8)], [tensor("seen", 1)]),
        "sound": graph([tensor("slice_features", 3, 1)], [tensor("level", 1)]),
        "slice": graph([tensor("slice", 1, 4, 4)], [tensor("slice_features", 1)]),
    }  # fmt: skip


def test_what_depends_on_what():
    chain = chain_of_graphs(a_chain(), CLIP, AUDIO)
    assert list(chain.fields) == ["frame", "sum", "sums"]
    assert chain.fields == {"frame": (0,), "sum": (-1, 0, 1), "sums": tuple(range(-3, 4))}
    assert chain.runs == {"frame": tuple(range(16)), "sum": (2, 4, 6, 8, 10, 12, 14), "sums": (4, 8, 12)}
    assert chain.heard == ("sound",)
    assert chain.wanted("sums") == {"first": ((1, 3, 1), "float32")}
    assert chain.wanted("sound") == {"slice_features": ((1, 3, 1), "float32")}
    assert chain.wanted("head")["level"] == ((1, 1), "float32")


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.integers(-3, 3), min_size=1, max_size=4),
    second=st.lists(st.integers(-2, 2), min_size=1, max_size=4),
    at=st.lists(st.integers(0, 15), min_size=1, max_size=4),
)
def test_a_run_changes_with_its_field_and_nothing_else(first, second, at):
    """Each frame is a number; sums with weights that tell all of them apart."""
    graphs = a_chain()
    graphs["sum"] = graph([tensor("seen", len(first), 1)], [tensor("first", 1)], seen=tuple(first))
    graphs["sums"] = graph([tensor("first", len(second), 1)], [tensor("second", 1)], first=tuple(second))
    graphs["head"] = graph([tensor("second", len(at), 1)], [tensor("saliency_map", 1)], second=tuple(at))
    field = sorted({a + b for a in first for b in second})
    if any(not 0 <= time + tap < 16 for time in at for tap in field):
        with pytest.raises(EngineMismatchError, match="not in a window"):
            chain_of_graphs(graphs, CLIP, AUDIO)
        return
    chain = chain_of_graphs(graphs, CLIP, AUDIO)
    assert chain.fields["sums"] == tuple(field)

    def run(name, inputs):
        (values,) = inputs.values()
        output = graphs[name].outputs[0].name
        return {output: values.reshape(1, 1) if name == "frame" else values.sum(axis=1)}

    def second_of(frames):
        *_, (name, inputs) = runs_of_window(chain, run, [np.full((1, 1), frame) for frame in frames], [])
        assert name == "head"
        return inputs["second"][0, :, 0]

    weights = 2.0 ** np.arange(16)
    found = second_of(weights)
    expected = [sum(weights[time + a + b] for a in first for b in second) for time in at]
    np.testing.assert_array_equal(found, expected)


def change(graphs, name, **fields):
    return graphs | {name: dataclasses.replace(graphs[name], **fields)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda g: change(g, "sum", inputs=(tensor("second", 3, 1),), taps={"second": (-1, 0, 1)}), "no graph before"),
        (lambda g: change(g, "sum", taps={}), "'sum' does not say at which times it takes seen"),
        (lambda g: change(g, "sum", taps={"seen": (0,) * (MOST_TAPS + 1)}), "'sum' does not say at which times"),
        (lambda g: change(g, "sums", outputs=(tensor("slice_features", 1),)), "both give slice_features"),
        (lambda g: change(g, "sums", taps={"first": (-4, 0, 2)}), "'sums' is asked for times that are not in a window"),
        (lambda g: change(g, "head", taps={"second": (4, 8, 16)}), "times that are not in a window"),
        (lambda g: change(g, "head", taps={"second": (-1, 8, 12)}), "times that are not in a window"),
        (lambda g: {name: graph for name, graph in g.items() if name != "sums"}, "'head' takes second, which no other"),
        (lambda g: change(g, "sums", inputs=(tensor("level", 1),), taps={}), "'sums' does not say at which times"),
    ],
)
def test_graphs_that_do_not_follow_are_refused(changed, message):
    with pytest.raises(EngineMismatchError, match=message):
        chain_of_graphs(changed(a_chain()), CLIP, AUDIO)


def test_what_is_kept_has_a_size():
    graphs = change(a_chain(), "frame", outputs=(tensor("seen", -1),))
    with pytest.raises(EngineMismatchError, match="leaves sizes open"):
        chain_of_graphs(graphs, CLIP, AUDIO).wanted("head")
