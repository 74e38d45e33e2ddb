"""Encoders of timm: with a stand-in for the package, and with the package where it is installed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privgen.encoders.loading import load_encoder
from privgen.errors import ConfigError, WeightsError

Tiles = NDArray[np.uint8]
HUB_NAME = "hf-hub:somebody/histology"


class Tiny(nn.Module):
    """Mean colour, through one linear layer; timm's attributes."""

    def __init__(self, classifier: str | tuple[str, ...] = "head", **preset: Any) -> None:
        super().__init__()
        self.body = nn.Linear(3, 5)
        self.pretrained_cfg = {
            "hf_hub_id": "somebody/histology",
            "input_size": (3, 32, 32),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.25, 0.5),
            "classifier": classifier,
            **preset,
        }

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == (32, 32)
        found: Tensor = self.body(x.mean(dim=(2, 3)))
        return found


class Pairs(Tiny):
    """Gives two vectors per tile."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reshape(-1, 1, 5).expand(-1, 2, 5)


NETWORKS = {
    "tiny": Tiny,
    "two_heads": lambda: Tiny(("head", "head_dist")),
    "no_weights": lambda: Tiny(hf_hub_id=None),
    "named_file": lambda: Tiny(hf_hub_filename="special.safetensors"),
    "pairs": Pairs,
    HUB_NAME: Tiny,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for timm and the hub's client; what lies in the folder is on the hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    timm, client = ModuleType("timm"), ModuleType("huggingface_hub")

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert not pretrained
        assert num_classes == 0
        if name not in NETWORKS:
            raise RuntimeError("no config.json\nof that repository")
        return NETWORKS[name]()

    def hf_hub_download(*, repo_id: str, filename: str) -> str:
        assert repo_id == "somebody/histology"
        if not (folder / filename).exists():
            raise RuntimeError(f"404 for {filename}\nor no network")
        return str(folder / filename)

    vars(timm).update(
        is_model=lambda name: name in NETWORKS and ":" not in name,
        list_models=lambda: list(NETWORKS),
        create_model=create_model,
    )
    vars(client).update(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return folder


def state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {
        "body.weight": torch.randn(5, 3),
        "body.bias": torch.randn(5),
        "head.weight": torch.randn(7, 5),
        "head.bias": torch.randn(7),
    }


def expected(tiles: Tiles, tensors: dict[str, Tensor]) -> NDArray[np.float64]:
    """By hand, for tiles of 32 pixels, which are not scaled."""
    mean = tiles.mean(axis=(1, 2)) / 255
    x = (mean - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
    found = x @ tensors["body.weight"].numpy().T.astype(float) + tensors["body.bias"].numpy()
    return np.asarray(found)


@pytest.fixture
def tiles() -> Tiles:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["tiny", HUB_NAME])
def test_weights_of_the_hub_make_an_encoder(name: str, hub: Path, tiles: Tiles) -> None:
    safetensors.torch.save_file(state(), hub / "model.safetensors")
    encoder = load_encoder(f"timm:{name}", device="cpu")
    np.testing.assert_allclose(encoder.embed(tiles), expected(tiles, state()), atol=1e-5)
    assert encoder.width == 5
    assert encoder.name == f"timm:{name}".replace("/", "_")


def test_safetensors_go_before_pytorchs_file_and_either_will_do(hub: Path, tiles: Tiles) -> None:
    torch.save(state(1), hub / "pytorch_model.bin")
    found = load_encoder("timm:tiny", device="cpu").embed(tiles)
    np.testing.assert_allclose(found, expected(tiles, state(1)), atol=1e-5)
    safetensors.torch.save_file(state(2), hub / "model.safetensors")
    found = load_encoder("timm:tiny", device="cpu").embed(tiles)
    np.testing.assert_allclose(found, expected(tiles, state(2)), atol=1e-5)


def test_a_network_that_names_its_file_gets_that_file(hub: Path, tiles: Tiles) -> None:
    safetensors.torch.save_file(state(1), hub / "model.safetensors")
    with pytest.raises(WeightsError, match=r"404 for special\.safetensors"):
        load_encoder("timm:named_file")
    safetensors.torch.save_file(state(2), hub / "special.safetensors")
    found = load_encoder("timm:named_file", device="cpu").embed(tiles)
    np.testing.assert_allclose(found, expected(tiles, state(2)), atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "two_heads", "no_weights", HUB_NAME])
def test_a_file_of_this_machine_needs_no_hub(
    name: str, hub: Path, tmp_path: Path, tiles: Tiles
) -> None:
    file = tmp_path / "w.safetensors"
    extra = {"head_dist.weight": torch.zeros(2)} if name == "two_heads" else {}
    safetensors.torch.save_file(state(3) | extra, file)
    encoder = load_encoder(f"timm:{name}:{file}", device="cpu")
    np.testing.assert_allclose(encoder.embed(tiles), expected(tiles, state(3)), atol=1e-5)
    assert encoder.name.startswith(f"timm:{name}@".replace("/", "_"))
    assert str(tmp_path) not in encoder.name


def test_a_weights_file_changes_the_digest(hub: Path, tmp_path: Path) -> None:
    digests = set()
    for seed in (1, 2):
        file = tmp_path / f"{seed}.pt"
        torch.save(state(seed), file)
        digests |= {load_encoder(f"timm:tiny:{file}").digest for _ in range(2)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("spec", "error", "line"),
    [
        ("timm:tini", ConfigError, "timm knows no network called 'tini'. Did you mean tiny?"),
        ("timm:zzzzzzzz", ConfigError, "timm.list_models() names them"),
        ("timm:tiny", WeightsError, "404 for model.safetensors or no network"),
        ("timm:tiny", WeightsError, "ask there for access and log in with `hf auth login`"),
        ("timm:tiny", WeightsError, "pass `encoder` timm:tiny:FILE"),
        ("timm:no_weights", WeightsError, "the hub has no weights for timm's no_weights"),
        ("timm:hf-hub:nobody/nothing", WeightsError, "no config.json of that repository"),
        ("timm:tiny:missing.pt", WeightsError, "cannot be read from missing.pt"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(
    spec: str, error: type[Exception], line: str, hub: Path
) -> None:
    with pytest.raises(error) as caught:
        load_encoder(spec)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["another shape", "one missing", "one more"])
def test_weights_of_another_network_are_refused(change: str, hub: Path, tmp_path: Path) -> None:
    tensors = state()
    if change == "another shape":
        tensors["body.bias"] = torch.zeros(4)
    elif change == "one missing":
        del tensors["body.bias"]
    else:
        tensors["header.weight"] = torch.zeros(1)  # begins like the head's name, and is not it
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"the weights in w\.pt do not fit tiny"):
        load_encoder(f"timm:tiny:{tmp_path / 'w.pt'}")


def test_a_network_with_two_vectors_a_tile_is_refused(hub: Path, tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"no single vector per tile: its output has shape"):
        load_encoder(f"timm:pairs:{tmp_path / 'w.pt'}")


def test_without_timm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="not installed: pip install timm"):
        load_encoder("timm:resnet18")


def test_without_the_hubs_client_the_message_says_so(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="pip install huggingface_hub"):
        load_encoder("timm:tiny")


def test_the_package_itself(tmp_path: Path, crops: Tiles) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False, num_classes=4).eval()
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    encoder = load_encoder(f"timm:test_vit:{file}", device="cpu")
    preset = network.pretrained_cfg
    x = torch.from_numpy(crops[:2]).permute(0, 3, 1, 2)
    size = preset["input_size"][1:]
    x = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True) / 255
    mean, std = (torch.tensor(preset[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        features = network.forward_features((x - mean) / std)
        expected = network.forward_head(features, pre_logits=True).numpy()
    np.testing.assert_allclose(encoder.embed(crops[:2]), expected, rtol=1e-3, atol=1e-4)
