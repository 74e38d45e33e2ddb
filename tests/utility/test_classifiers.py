import pytest
import torch
from torch import nn

from privgen.errors import ConfigError
from privgen.utility.classifiers import FAMILIES, SIZES, build


def last_map_side(model: nn.Module, side: int) -> int:
    """Side of the feature map before global pooling."""
    seen: list[torch.Tensor] = []
    last = model.layer4 if hasattr(model, "layer4") else model.features
    last.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, side, side))
    return seen[0].shape[-1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_gives_one_logit_a_class_at_every_side(family: str, size: str) -> None:
    for side in (16, 28, 64):
        model = build(family, classes=5, side=side, seed=0, size=size).eval()
        with torch.inference_mode():
            assert model(torch.zeros(2, 3, side, side)).shape == (2, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_32_and_64_px_end_as_4_by_4_and_224_px_as_published(family: str) -> None:
    found = {
        side: last_map_side(build(family, classes=3, side=side, seed=0), side)
        for side in (32, 64, 224)
    }
    assert found == {32: 4, 64: 4, 224: 7}


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        # torchvision's documented counts for 1,000 classes.
        ("mobilenet", 2_542_856),
        ("resnet", 11_689_512),
        ("densenet", 7_978_856),
        ("efficientnet", 5_288_548),
    ],
)
def test_standard_networks_are_the_published_ones(family: str, parameters: int) -> None:
    model = build(family, classes=1000, side=64, seed=0)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_small_has_fewer_parameters(family: str) -> None:
    count = {
        size: sum(
            p.numel() for p in build(family, classes=9, side=32, seed=0, size=size).parameters()
        )
        for size in SIZES
    }
    assert count["small"] < 0.5 * count["standard"]


def test_weights_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build("mobilenet", classes=3, side=16, seed=1, size="small").state_dict()
    torch.manual_seed(99)
    again = build("mobilenet", classes=3, side=16, seed=1, size="small").state_dict()
    other = build("mobilenet", classes=3, side=16, seed=2, size="small").state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.0.weight"], other["classifier.0.weight"])
    torch.manual_seed(5)
    build("mobilenet", classes=3, side=16, seed=1, size="small")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"family": "vit"}, "mobilenet, resnet, densenet, efficientnet: got 'vit'"),
        ({"size": "huge"}, "standard, small: got 'huge'"),
        ({"side": 8}, "16 px or more: got 8"),
        ({"classes": 1}, "2 classes or more: got 1"),
    ],
)
def test_refuses_what_it_cannot_build(changed: dict[str, object], rule: str) -> None:
    options = {"family": "resnet", "classes": 3, "side": 32, "seed": 0, "size": "small"} | changed
    with pytest.raises(ConfigError, match=rule):
        build(options.pop("family"), **options)
