import numpy as np
import pytest
import torch
from torch import nn

from privgen.benefit.trials.classifiers import (
    FAMILIES,
    MODELS,
    SIZES,
    SMALLEST_SIDE,
    build,
    uses_bfloat16,
)
from privgen.errors import ConfigError

NETWORKS = MODELS[len(FAMILIES) :]


def blank(side: int, count: int = 1) -> torch.Tensor:
    return torch.zeros(count, side, side, 3, dtype=torch.uint8)


def last_map_side(model: nn.Module, side: int) -> int:
    """Side of the feature map before global pooling."""
    network = model.network
    last = next(
        getattr(network, name) for name in ("layer4", "features", "head") if hasattr(network, name)
    )
    seen: list[torch.Tensor] = []
    last.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.inference_mode():
        model.eval()(blank(side))
    return seen[0].shape[-1]


@pytest.mark.parametrize(
    ("model", "size"),
    [(family, "small") for family in FAMILIES] + [(name, "standard") for name in NETWORKS],
)
def test_gives_one_logit_a_class_at_the_smallest_and_an_odd_side(model: str, size: str) -> None:
    for side in (SMALLEST_SIDE, 45):
        classifier = build(model, classes=5, side=side, seed=0, size=size).eval()
        with torch.inference_mode():
            assert classifier(blank(side, 2)).shape == (2, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_32_and_64_px_end_as_4_by_4_and_224_px_as_published(name: str) -> None:
    found = {
        side: last_map_side(build(name, classes=3, side=side, seed=0), side)
        for side in (32, 64, 224)
    }
    assert found == {32: 4, 64: 4, 224: 7}


@pytest.mark.parametrize(
    ("family", "expected"),
    [("mobilenet", 2), ("resnet", 2), ("densenet", 4), ("efficientnet", 2)],
)
def test_small_networks_shrink_tiles_once_more(family: str, expected: int) -> None:
    found = {
        side: last_map_side(build(family, classes=3, side=side, seed=0, size="small"), side)
        for side in (32, 64)
    }
    assert found == {32: expected, 64: expected}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # torchvision's documented counts for 1,000 classes; Lite0's published 4.7 M, exactly.
        ("mobilenet", 2_542_856),
        ("resnet", 11_689_512),
        ("densenet", 7_978_856),
        ("efficientnet", 5_288_548),
        ("mobilenet_v2", 3_504_872),
        ("mobilenet_v3_large", 5_483_032),
        ("resnet50", 25_557_032),
        ("efficientnet_lite0", 4_652_008),
    ],
)
def test_standard_networks_are_the_published_ones(model: str, parameters: int) -> None:
    classifier = build(model, classes=1000, side=64, seed=0)
    assert sum(p.numel() for p in classifier.parameters()) == parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_small_has_fewer_parameters(family: str) -> None:
    count = {
        size: sum(
            p.numel() for p in build(family, classes=9, side=32, seed=0, size=size).parameters()
        )
        for size in SIZES
    }
    assert count["small"] < 0.5 * count["standard"]


def test_a_network_by_its_own_name_heeds_no_size() -> None:
    one, other = (
        build("mobilenet_v3_small", classes=3, side=32, seed=4, size=size).state_dict()
        for size in SIZES
    )
    family = build("mobilenet", classes=3, side=32, seed=4).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in family)
    assert all(torch.equal(one[key], family[key]) for key in one)


def test_fresh_networks_see_levels_from_minus_2_to_2_channels_last() -> None:
    tiles = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 2, 2, 3)
    x = build("resnet", classes=2, side=16, seed=0, size="small").normalisation(tiles)
    assert x.shape == (1, 3, 2, 2)
    assert x[0, :, 1, 0].tolist() == pytest.approx([-2, -1.2, 2])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_weights_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build("mobilenet", classes=3, side=16, seed=1, size="small").state_dict()
    torch.manual_seed(99)
    again = build("mobilenet", classes=3, side=16, seed=1, size="small").state_dict()
    other = build("mobilenet", classes=3, side=16, seed=2, size="small").state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "network.classifier.0.weight"
    assert not torch.equal(first[key], other[key])
    torch.manual_seed(5)
    build("mobilenet", classes=3, side=16, seed=1, size="small")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_is_for_networks_without_depthwise_layers_and_processors_that_have_it(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    depthwise = any(
        isinstance(layer, nn.Conv2d) and layer.groups > 1
        for layer in build(model, classes=2, side=16, seed=0, size="small").modules()
    )
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert uses_bfloat16(model, cpu) == (not depthwise)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not uses_bfloat16(model, cpu)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"model": "vit"}, "mobilenet, resnet, .*efficientnet_lite0: got 'vit'"),
        ({"model": "resnet19"}, "got 'resnet19'. Did you mean resnet18"),
        ({"size": "huge"}, "standard, small: got 'huge'"),
        ({"side": 8}, "16 px or more: got 8"),
        ({"classes": 1}, "2 classes or more: got 1"),
        ({"weights": "torchvision"}, "resnet of size small: got 'torchvision'. .* e.g. resnet18"),
    ],
)
def test_refuses_what_it_cannot_build(changed: dict[str, object], rule: str) -> None:
    options = {"model": "resnet", "classes": 3, "side": 32, "seed": 0, "size": "small"} | changed
    with pytest.raises(ConfigError, match=rule) as caught:
        build(options.pop("model"), **options)
    assert "\n" not in str(caught.value)


def test_every_tile_is_classified_by_itself_in_evaluation_mode() -> None:
    model = build("efficientnet_lite0", classes=3, side=16, seed=0).eval()
    rng = np.random.default_rng(0)
    tiles = torch.tensor(rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.allclose(model(tiles)[2:3], model(tiles[2:3]), atol=1e-5)
