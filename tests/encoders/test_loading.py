"""Encoders: known answers, independence of the batch, precision, errors in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from pytorch_fid import inception

from privgen.data.layouts import open_tiles
from privgen.encoders import networks, weights
from privgen.encoders.loading import EFFNET_SIDE, Encoder, inception_network, load_encoder
from privgen.errors import ConfigError, InputError, WeightsError
from privgen.files import sha256_file
from privgen.models.effnet_lite import LITE0, LITE2, Variant, load_effnet_lite, normalise


def cosine_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(1 - (a * b).sum(axis=1) / lengths)


NETWORKS = [("effnet_lite0", LITE0), ("effnet_lite2", LITE2)]


@pytest.mark.parametrize("name", ["effnet_lite0", "effnet_lite2", "pixels", "colour"])
def test_an_embedding_depends_on_its_tile_alone(name: str, crops: NDArray[np.uint8]) -> None:
    encoder = load_encoder(name, device="cpu")
    together = encoder.embed(crops)
    assert together.shape == (len(crops), encoder.width)
    assert together.dtype == np.float32
    order = np.random.default_rng(0).permutation(len(crops))
    np.testing.assert_array_equal(encoder.embed(crops[order]), together[order])
    np.testing.assert_array_equal(encoder.embed(crops[5:6]), together[5:6])
    np.testing.assert_array_equal(encoder.embed(crops[3:20]), together[3:20])


def test_views_and_read_only_tiles_embed_like_copies(
    lite0: Encoder, crops: NDArray[np.uint8]
) -> None:
    turned = np.rot90(crops[:2], axes=(1, 2))
    frozen = np.ascontiguousarray(turned)
    frozen.setflags(write=False)
    np.testing.assert_array_equal(lite0.embed(turned), lite0.embed(frozen))


@pytest.mark.parametrize(("name", "variant"), NETWORKS)
def test_fp32_is_the_network_itself(name: str, variant: Variant, crops: NDArray[np.uint8]) -> None:
    sides = (EFFNET_SIDE, EFFNET_SIDE)
    tiles = torch.from_numpy(crops[:3]).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(tiles, sides, mode="bicubic", antialias=True)
    with torch.inference_mode():
        expected = load_effnet_lite(variant)(normalise(resized.float())).numpy()
    got = load_encoder(name, device="cpu", precision="fp32").embed(crops[:3])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_no_tiles_give_no_embeddings(lite0: Encoder) -> None:
    assert lite0.embed(np.empty((0, 64, 64, 3), dtype=np.uint8)).shape == (0, 1280)


@pytest.mark.parametrize("name", ["effnet_lite0", "effnet_lite2"])
def test_bf16_stays_within_a_hundredth_of_fp32(name: str, crops: NDArray[np.uint8]) -> None:
    exact = load_encoder(name, device="cpu", precision="fp32").embed(crops)
    fast = load_encoder(name, device="cpu", precision="bf16").embed(crops)
    assert cosine_distance(fast, exact).max() < 1e-2
    assert (fast != exact).any()


@pytest.mark.real_data
def test_bf16_stays_within_a_hundredth_of_fp32_on_tissue(
    real_data: Callable[[str], Path],
) -> None:
    tiles = open_tiles(real_data("glas"))
    some = tiles.subset(np.linspace(0, len(tiles) - 1, 32).astype(int)).load()
    exact = load_encoder(device="cpu", precision="fp32").embed(some)
    fast = load_encoder(device="cpu", precision="bf16").embed(some)
    assert cosine_distance(fast, exact).max() < 1e-2


def test_the_digest_tells_precision_and_network_and_nothing_else() -> None:
    fp32 = load_encoder(device="cpu", precision="fp32")
    again = load_encoder(device="cpu", precision="fp32")
    assert fp32.digest == again.digest != load_encoder(device="cpu", precision="bf16").digest
    names = ("pixels", "colour", "effnet_lite2")
    assert len({load_encoder(name).digest for name in names} | {fp32.digest}) == 4


def test_pixels_at_their_own_side_are_the_pixels(pixels: Encoder) -> None:
    tile = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected = tile[0].transpose(2, 0, 1).ravel() / 255
    np.testing.assert_allclose(pixels.embed(tile)[0], expected, atol=1e-6)


def test_colour_counts_joint_bins_and_forgets_places() -> None:
    tile = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    tile[0, :, :2] = (255, 31, 32)  # bins 7, 0, 1: half of the pixels
    encoder = load_encoder("colour")
    expected = np.zeros(512)
    expected[7 * 64 + 0 * 8 + 1] = expected[0] = 0.5**0.5
    np.testing.assert_allclose(encoder.embed(tile)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(encoder.embed(tile[:, :, ::-1]), encoder.embed(tile))


@pytest.mark.parametrize(
    ("tiles", "rule"),
    [
        (np.zeros((1, 8, 8, 3), dtype=np.float32), "uint8"),
        (np.zeros((8, 8, 3), dtype=np.uint8), r"\(n, side, side, 3\)"),
        (np.zeros((1, 8, 8, 4), dtype=np.uint8), r"\(n, side, side, 3\)"),
        (np.zeros((1, 8, 9, 3), dtype=np.uint8), "square: got 9x8"),
    ],
)
def test_what_is_no_stack_of_tiles_is_refused(
    pixels: Encoder, tiles: NDArray[np.uint8], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        pixels.embed(tiles)


@pytest.mark.parametrize(
    ("spec", "way_out"),
    [
        ("effnet_lite", "Did you mean effnet_lite0 or effnet_lite2?"),
        ("pixel", "Did you mean pixels?"),
        (
            "resnet18",
            "there are effnet_lite0, effnet_lite2, inception_fid, torchvision:NAME, timm:NAME",
        ),
        ("effnet_lite0:a.pth", "takes no file"),
        ("effnet_lite2:a.pth", "takes no file: got 'effnet_lite2:a.pth'"),
        ("pixels:a.pth", "takes no file"),
        ("colour:a.pth", "takes no file: got 'colour:a.pth'"),
        ("torchvision:", "no classification network called ''"),
        ("torchvision:resnet81", "Did you mean resnet18?"),
        ("timm:", "timm:NAME or timm:NAME:FILE"),
        ("file:resnet18.pt", "file:FILE#sha256=HEX"),
        ("file:resnet18.pt#sha256=12ab", "64 hex digits"),
    ],
)
def test_an_unknown_encoder_is_one_clear_line(spec: str, way_out: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_encoder(spec)
    assert way_out in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def untrained_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FID Inception's shapes with random weights, saved as old PyTorch saved the real ones."""
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(
        weights=None, num_classes=1008, aux_logits=False, init_weights=False
    )
    file = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=False)
    return file


def test_inception_is_pytorch_fids_network_input_included(
    untrained_inception: Path, crops: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_INCEPTION_SHA256", sha256_file(untrained_inception))
    encoder = load_encoder(f"inception_fid:{untrained_inception}", device="cpu")
    state = torch.load(untrained_inception, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    oracle = inception.InceptionV3().eval()
    with torch.inference_mode():
        x = torch.from_numpy(crops[:2]).permute(0, 3, 1, 2).float() / 255
        expected = oracle(x)[0].flatten(1).numpy()
    got = encoder.embed(crops[:2])
    assert (encoder.name, got.shape) == ("inception_fid", (2, 2048))
    assert np.ptp(expected, axis=0).any()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_pytorch_fids_own_download_is_put_back(untrained_inception: Path) -> None:
    before = inception.load_state_dict_from_url
    with pytest.raises(RuntimeError):
        inception_network({"nothing": torch.zeros(1)})
    assert inception.load_state_dict_from_url is before


def test_other_weights_are_never_called_fid(untrained_inception: Path) -> None:
    with pytest.raises(WeightsError, match="must be the published file"):
        load_encoder(f"inception_fid:{untrained_inception}")


def test_without_a_network_inception_says_within_seconds_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    url = "http://127.0.0.1:9/pt_inception-2015-12-05-6726825d.pth"
    monkeypatch.setattr(inception, "FID_WEIGHTS_URL", url)
    asked: list[tuple[str, float]] = []

    def unreachable(url: str, *, timeout: float) -> None:
        asked.append((url, timeout))
        raise OSError("no network")

    monkeypatch.setattr(weights, "urlopen", unreachable)
    with pytest.raises(WeightsError) as caught:
        load_encoder("inception_fid")
    line = str(caught.value)
    assert asked == [(url, weights.PATIENCE)]
    assert "\n" not in line
    for part in (url, networks._INCEPTION_SHA256, "$XDG_CACHE_HOME/privgen", "`fid_weights`"):
        assert part in line
    assert str(tmp_path) not in line
