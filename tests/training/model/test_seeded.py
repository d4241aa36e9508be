"""Random weights that behave like trained ones."""

import pytest
import torch

from dtfsal.training.model.deform_conv import ModulatedDeformConv2d
from dtfsal.training.model.seeded import seeded_model, synthetic_window


@pytest.fixture(scope="module")
def tiny():
    return seeded_model("tiny")


def test_the_same_seed_gives_the_same_weights_and_touches_no_global_state(tiny):
    torch.manual_seed(123)
    again = seeded_model("tiny")
    after = torch.rand(())
    torch.manual_seed(123)
    assert torch.rand(()) == after
    assert all(torch.equal(a, b) for a, b in zip(tiny.state_dict().values(), again.state_dict().values(), strict=True))


def test_another_seed_gives_others(tiny):
    other = seeded_model("tiny", seed=1)
    assert not torch.equal(tiny.encoder.conv_proj.weight, other.encoder.conv_proj.weight)


def test_maps_are_not_degenerate(tiny):
    torch.manual_seed(0)
    with torch.no_grad():
        maps = [tiny(*synthetic_window(tiny.config)) for _ in range(2)]
    for saliency_map in maps:
        assert saliency_map.std() > 0.1
        assert saliency_map.max() - saliency_map.min() > 0.5
    assert (maps[0] - maps[1]).abs().mean() > 0.02


def test_offsets_are_fractional_and_leave_the_map(tiny):
    seen = {}
    (module,) = [m for m in tiny.modules() if isinstance(m, ModulatedDeformConv2d)]
    handle = module.offset_mask.register_forward_hook(lambda _m, _i, output: seen.update(offset=output[:, :18]))
    with torch.no_grad():
        tiny(*synthetic_window(tiny.config))
    handle.remove()
    assert 0.2 < seen["offset"].std() < 5
    assert ((seen["offset"] % 1) > 0.01).float().mean() > 0.9


@pytest.mark.parametrize("change", ["another", "silence", "reversed", "last slice silent"])
def test_sound_matters(tiny, change):
    torch.manual_seed(0)
    video, sound = synthetic_window(tiny.config)
    other = {
        "another": synthetic_window(tiny.config)[1],
        "silence": torch.full_like(sound, tiny.config.audio.silence),
        "reversed": sound.flip(1),
        "last slice silent": torch.cat((sound[:, :-1], torch.full_like(sound[:, :1], tiny.config.audio.silence)), 1),
    }[change]
    with torch.no_grad():
        # Hundreds of times what parity allows in FP32: an engine with the sound mixed up does not pass.
        assert (tiny(video, sound) - tiny(video, other)).abs().max() > 0.05


def test_the_visual_model_is_not_degenerate_either():
    model = seeded_model("tiny-v")
    assert not model.training
    with torch.no_grad():
        assert model(*synthetic_window(model.config)).std() > 0.1
