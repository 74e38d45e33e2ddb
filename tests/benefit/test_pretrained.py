"""Classifiers that start from published weights or one's own, all but the last layer."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from privgen.benefit.trials import pretrained
from privgen.benefit.trials.classifiers import Classifier, build
from privgen.encoders import weights as fetching
from privgen.errors import ConfigError, WeightsError
from privgen.files import sha256_file
from privgen.models.effnet_lite import load_effnet_lite0, normalise

NAME = "mobilenet_v3_small"


@pytest.fixture(autouse=True)
def no_network_and_own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(fetching, "urlopen", unreachable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("PRIVGEN_CACHE", raising=False)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(7)
    made: nn.Module = torchvision.models.get_model(NAME, weights=None)
    return made


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(network.state_dict(), path)
    return path


def spec(file: Path) -> str:
    return f"file:{file}#sha256={sha256_file(file)}"


def make(weights: str | None, name: str = NAME, *, classes: int = 3, seed: int = 0) -> Classifier:
    return build(name, classes=classes, side=64, seed=seed, weights=weights)


def test_all_layers_but_the_last_are_loaded(network: nn.Module, file: Path) -> None:
    loaded, fresh = make(spec(file)).network.state_dict(), make(None).network.state_dict()
    head = {"classifier.3.weight", "classifier.3.bias"}
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded[key], fresh[key] if key in head else tensor), key
    assert loaded["classifier.3.weight"].shape == (3, 1024)


def test_the_last_layer_depends_on_the_seed(file: Path) -> None:
    one, other = (make(spec(file), seed=seed).network.state_dict() for seed in (0, 1))
    differing = {key for key in one if not torch.equal(one[key], other[key])}
    assert differing == {"classifier.3.weight"}  # the bias starts at zero


def test_torchvision_weights_see_what_they_were_trained_on(file: Path) -> None:
    """torchvision's own transform is the oracle."""
    tiles = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    got = make(spec(file)).normalisation(torch.tensor(tiles))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = torchvision.transforms.functional.normalize(
        torch.tensor(tiles).permute(0, 3, 1, 2) / 255, mean, std
    )
    assert torch.allclose(got, expected, atol=1e-5)
    for name in ("resnet18", "resnet50", "densenet121", "efficientnet_b0", "mobilenet_v3_large"):
        transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        assert (transform.mean, transform.std) == (mean, std)


def test_lite0_computes_the_published_features_of_a_224_px_tile() -> None:
    model = build("efficientnet_lite0", classes=3, side=224, seed=0, weights="imagenet").eval()
    tile = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    seen: list[torch.Tensor] = []
    model.network.classifier.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.inference_mode():
        model(torch.tensor(tile))
        expected = load_effnet_lite0()(normalise(torch.tensor(tile).permute(0, 3, 1, 2).float()))
    assert torch.allclose(seen[0], expected, rtol=1e-3, atol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_published_weights_are_taken_from_the_cache_of_torch(
    network: nn.Module, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256_file(file)
    folder = tmp_path / "cache" / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    name = f"{NAME}-{digest[:8]}.pth"
    (folder / name).write_bytes(file.read_bytes())
    preset = torchvision.models.get_model_weights(NAME).DEFAULT
    published = pretrained.published_weights(NAME, preset, option="--weights FILE")
    moved = type(published)(
        title=published.title,
        url=f"https://example.org/{name}",
        sha256=digest[:8],
        size=published.size,
        option=published.option,
    )
    monkeypatch.setattr(pretrained, "published_weights", lambda *_, **__: moved)
    loaded = make("torchvision").network.state_dict()
    assert torch.equal(loaded["features.0.0.weight"], network.state_dict()["features.0.0.weight"])


def test_weights_that_cannot_be_fetched_are_named_with_their_digest_and_place() -> None:
    with pytest.raises(WeightsError) as caught:
        make("torchvision", "resnet18")
    text = str(caught.value)
    for part in (
        "torchvision resnet18",
        "no route to host",
        "resnet18-f37072fd.pth",
        "f37072fd...",
    ):
        assert part in text
    assert "place it in $XDG_CACHE_HOME/privgen, or pass " in text
    assert "\n" not in text


def test_densenet_files_of_2017_name_their_layers_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {
        key.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: tensor
        for key, tensor in state.items()
    }
    assert set(old) != set(state)
    path = tmp_path / "densenet121.pth"
    torch.save(old, path)
    loaded = make(spec(path), "densenet121").network.state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in state if not k.startswith("classifier."))


def short(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in state.items() if key != "features.0.0.weight"}


def reshaped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"features.0.0.weight": torch.zeros(16, 3, 5, 5)}


@pytest.mark.parametrize(("spoil", "reason"), [(short, "Missing key"), (reshaped, "size mismatch")])
def test_weights_that_do_not_fit_are_refused_in_one_line(
    spoil: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    reason: str,
    network: nn.Module,
    tmp_path: Path,
) -> None:
    path = tmp_path / "spoilt.pth"
    torch.save(spoil(network.state_dict()), path)
    with pytest.raises(WeightsError, match=rf"spoilt.pth do not fit {NAME}: .*{reason}") as caught:
        make(spec(path))
    assert "\n" not in str(caught.value)


def test_a_file_with_another_digest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"anything")
    with pytest.raises(WeightsError, match=f"must have the SHA-256 {'0' * 64}: it has"):
        make(f"file:{path}#sha256={'0' * 64}")


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read from absent\.pth") as caught:
        make(f"file:{tmp_path / 'absent.pth'}#sha256={'0' * 64}")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "weights", "rule"),
    [
        (NAME, "imagenet", "must be torchvision or file:FILE#sha256=HEX .*: got 'imagenet'"),
        ("efficientnet_lite0", "torchvision", "must be imagenet or file:.*: got 'torchvision'"),
        (NAME, "file:weights.pth", "with 64 hex digits: got 'file:weights.pth'"),
    ],
)
def test_unknown_weights_are_refused(name: str, weights: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        make(weights, name)
