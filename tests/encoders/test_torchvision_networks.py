"""Encoders of torchvision: the features before the last layer, weights through our door alone."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from privgen.encoders import torchvision_networks
from privgen.encoders.foreign import one_line
from privgen.encoders.loading import load_encoder
from privgen.errors import ConfigError, WeightsError
from privgen.files import sha256_file

Tiles = NDArray[np.uint8]
NAME = "mobilenet_v3_small"


def untrained(name: str = NAME, classes: int = 1000) -> nn.Module:
    torch.manual_seed(7)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():  # statistics of noise, so that tiles are told apart to the last layer
        network.train()(torch.randn(8, 3, 96, 96))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return untrained()


@pytest.fixture(scope="module")
def weights(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PyTorch file named as torchvision names its own."""
    folder = tmp_path_factory.mktemp("weights")
    file = folder / "new.pth"
    torch.save(network.state_dict(), file)
    return file.rename(folder / f"{NAME}-{sha256_file(file)[:8]}.pth")


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("PRIVGEN_CACHE", raising=False)


def before_the_last_layer(network: nn.Module, layer: str, tiles: Tiles) -> NDArray[np.float32]:
    """What the layer is given, by a hook: tiles enlarged, ImageNet's mean and deviation."""
    seen: list[torch.Tensor] = []
    hook = network.get_submodule(layer).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        network((x / 255 - mean[:, None, None]) / std[:, None, None])
    hook.remove()
    return seen[0].numpy()


def test_the_embedding_is_the_input_of_the_last_layer(
    network: nn.Module, weights: Path, crops: Tiles
) -> None:
    encoder = load_encoder(f"torchvision:{NAME}:{weights}", device="cpu")
    got = encoder.embed(crops[:3])
    expected = before_the_last_layer(network, "classifier.3", crops[:3])
    assert got.shape == (3, 1024) == (3, encoder.width)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)


def test_an_embedding_depends_on_its_tile_alone(weights: Path, crops: Tiles) -> None:
    encoder = load_encoder(f"torchvision:{NAME}:{weights}", device="cpu")
    together = encoder.embed(crops[:18])
    np.testing.assert_array_equal(encoder.embed(crops[17:18]), together[17:18])
    np.testing.assert_array_equal(encoder.embed(crops[:18][::-1]), together[::-1])


def test_every_family_has_a_last_layer_to_take_away() -> None:
    """Names and widths of the input of the classifying layer, from the papers' tables."""
    heads = {
        "alexnet": ("classifier.6", 4096),
        "mobilenet_v3_small": ("classifier.3", 1024),
        "resnet18": ("fc", 512),
        "shufflenet_v2_x0_5": ("fc", 1024),
        "squeezenet1_1": ("classifier.1", 512),
        "mnasnet0_5": ("classifier.1", 1280),
        "googlenet": ("fc", 1024),
    }
    for name, (head, width) in heads.items():
        network = torchvision_networks._torchvision_built(name, 224).eval()
        assert torchvision_networks._without_head(network) == head
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, 64, 64)).shape == (1, width)


def test_squeezenet_has_no_linear_layer_and_is_averaged_over_the_tile(
    tmp_path: Path, crops: Tiles
) -> None:
    network = untrained("squeezenet1_1")
    torch.save(network.state_dict(), tmp_path / "s.pt")
    encoder = load_encoder(f"torchvision:squeezenet1_1:{tmp_path / 's.pt'}", device="cpu")
    maps = before_the_last_layer(network, "classifier.1", crops[:2])
    assert np.ptp(maps.mean(axis=(2, 3)), axis=0).max() > 0.01
    np.testing.assert_allclose(
        encoder.embed(crops[:2]), maps.mean(axis=(2, 3)), rtol=1e-3, atol=1e-6
    )


def test_building_a_network_moves_nobodys_seed(weights: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_encoder(f"torchvision:{NAME}:{weights}", device="cpu")
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("classes", [9, 0])
def test_any_number_of_classes_will_do(
    classes: int, network: nn.Module, weights: Path, tmp_path: Path, crops: Tiles
) -> None:
    """Nine classes, or the layer is missing: the embedding does not come from it."""
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("classifier.3.")}
    if classes:
        state |= {
            "classifier.3.weight": torch.ones(classes, 1024),
            "classifier.3.bias": torch.ones(9),
        }
    file = tmp_path / f"{NAME}.safetensors"
    safetensors.torch.save_file(state, file)
    spec = f"file:{file}#sha256={sha256_file(file)}"
    published = load_encoder(f"torchvision:{NAME}:{weights}", device="cpu")
    np.testing.assert_array_equal(
        load_encoder(spec, device="cpu").embed(crops[:2]), published.embed(crops[:2])
    )


def test_own_weights_are_found_by_content_and_named_by_digest(
    weights: Path, tmp_path: Path
) -> None:
    sha256 = sha256_file(weights)
    file = tmp_path / f"{NAME}-mine#2.bin"  # neither the ending nor a # in the name matters
    file.write_bytes(weights.read_bytes())
    own = load_encoder(f"file:{file}#sha256={sha256.upper()}", device="cpu")
    given = load_encoder(f"torchvision:{NAME}:{file}", device="cpu")
    assert own.name == f"file:{NAME}@{sha256[:8]}"
    assert given.name == f"torchvision:{NAME}@{sha256[:8]}"  # not the published weights
    assert own.digest == given.digest


def test_own_weights_with_another_digest_are_refused(weights: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(WeightsError, match=f"must have the SHA-256 {wrong}: it has") as caught:
        load_encoder(f"file:{weights}#sha256={wrong}")
    assert str(weights.parent) not in str(caught.value)


def test_the_digest_tells_the_weights_and_the_network(tmp_path: Path) -> None:
    digests = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        file = tmp_path / f"{seed}.pt"
        torch.save(torchvision.models.get_model(NAME, weights=None).state_dict(), file)
        digests |= {load_encoder(f"torchvision:{NAME}:{file}").digest for _ in range(2)}
    assert len(digests) == 2


def test_a_file_that_names_no_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(ConfigError, match="no classification network called 'weights'"):
        load_encoder(f"file:{file}#sha256={sha256_file(file)}")


class Opened:
    """What unpickling would call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("opened"),))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"fc.weight": torch.zeros(2)}, r"do not fit mobilenet_v3_small: .*Missing key"),
        ("wrong shape", r"do not fit mobilenet_v3_small: .*size mismatch"),
        ("one more", r"do not fit mobilenet_v3_small: .*Unexpected key"),
        ({"state_dict": {"a": torch.zeros(2)}}, "tensors and nothing else"),
        ({"a": Opened()}, "tensors and nothing else"),
        (b"not weights at all", "neither, or damaged"),
        (b"", "neither, or damaged"),
        (None, "cannot be read from w.pt"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    content: object,
    reason: str,
    network: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pt"
    if content == "wrong shape":
        content = {**network.state_dict(), "features.0.0.weight": torch.zeros(3)}
    if content == "one more":
        content = {**network.state_dict(), "features.99.weight": torch.zeros(3)}
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=reason) as caught:
        load_encoder(f"torchvision:{NAME}:{file}")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not Path("opened").exists()


def test_a_network_without_a_version_beside_its_tensors_is_todays(tmp_path: Path) -> None:
    network = untrained("mnasnet0_5")
    safetensors.torch.save_file(dict(network.state_dict()), tmp_path / "m.safetensors")
    torch.save(network.state_dict(), tmp_path / "m.pt")
    tile = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    first, second = (
        load_encoder(f"torchvision:mnasnet0_5:{tmp_path / name}", device="cpu").embed(tile)
        for name in ("m.safetensors", "m.pt")
    )
    np.testing.assert_array_equal(first, second)


def test_densenets_published_names_are_those_of_old() -> None:
    old = {"features.denseblock1.denselayer2.norm.1.weight": torch.zeros(1)}
    assert set(torchvision_networks.as_built_today(old)) == {
        "features.denseblock1.denselayer2.norm1.weight"
    }


def test_auxiliary_classifiers_are_left_out() -> None:
    state = {key: torch.zeros(1) for key in ("aux1.conv.weight", "AuxLogits.fc.bias", "fc.bias")}
    assert set(torchvision_networks.as_built_today(state)) == {"fc.bias"}


def test_every_published_network_tells_where_its_weights_are_and_how_they_begin() -> None:
    models = torchvision.models
    for name in models.list_models(module=models):
        preset = torchvision_networks._preset(name)
        published = torchvision_networks.published_weights(name, preset, option="FILE")
        assert published.url.startswith("https://download.pytorch.org/models/")
        assert 8 <= len(published.sha256) <= 64
        assert f"-{published.sha256}.pth" in published.name
        assert published.size > 10**6
        assert len(preset.transforms().crop_size) == 1


@pytest.fixture
def server(weights: Path) -> Iterator[str]:
    """The address of a server of the weights' folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(weights.parent)))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


def publish(monkeypatch: pytest.MonkeyPatch, url: str, size: int) -> None:
    preset = SimpleNamespace(
        url=url,
        meta={"_file_size": round(size / 2**20, 3)},
        transforms=torchvision_networks._preset(NAME).transforms,
    )
    monkeypatch.setattr(torchvision_networks, "_preset", lambda _: preset)


def test_published_weights_are_fetched_once_and_verified(
    server: str, weights: Path, crops: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, f"{server}/{weights.name}", weights.stat().st_size)
    encoder = load_encoder(f"torchvision:{NAME}", device="cpu")
    kept = tmp_path / "cache" / "privgen" / weights.name
    assert kept.read_bytes() == weights.read_bytes()
    assert encoder.name == f"torchvision:{NAME}"
    publish(monkeypatch, f"http://127.0.0.1:9/{weights.name}", weights.stat().st_size)
    again = load_encoder(f"torchvision:{NAME}", device="cpu")
    assert again.digest == encoder.digest
    given = load_encoder(f"torchvision:{NAME}:{weights}", device="cpu")
    assert (given.name, given.digest) == (encoder.name, encoder.digest)
    np.testing.assert_array_equal(again.embed(crops[:1]), given.embed(crops[:1]))


def test_weights_that_are_not_the_published_ones_are_refused(
    server: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = hashlib.sha256(b"other").hexdigest()[:8]
    copy = weights.parent / f"{NAME}-{other}.pth"
    copy.write_bytes(weights.read_bytes())
    publish(monkeypatch, f"{server}/{copy.name}", weights.stat().st_size)
    with pytest.raises(WeightsError, match="another SHA-256") as caught:
        load_encoder(f"torchvision:{NAME}")
    assert f"pass `encoder` torchvision:{NAME}:FILE" in str(caught.value)
    assert list((tmp_path / "cache" / "privgen").iterdir()) == []


def test_weights_published_without_a_digest_are_not_fetched(
    server: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, f"{server}/{NAME}.pth", weights.stat().st_size)
    with pytest.raises(WeightsError, match="publishes no digest"):
        load_encoder(f"torchvision:{NAME}")


def test_a_long_reason_of_another_package_is_cut() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("x" * 200)) == "x" * 200
    assert one_line(ValueError("x" * 201)) == "x" * 200 + "..."
