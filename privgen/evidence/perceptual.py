"""LPIPS: how different the tiles of a class look, to tell a generator from one that repeats itself.

The distance compares AlexNet's feature maps, weighted to agree with people (Zhang et al. 2018,
arXiv:1801.03924). The weights of that comparison come with the `lpips` package, AlexNet's own do
not: without them there is no LPIPS, and nothing takes its place.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from audits.results import AuditResult, Estimate
from privgen.checkpoints.state import load_weights
from privgen.data.blocks import native_side
from privgen.data.tileset import TileSet
from privgen.encoders.weights import PublishedWeights, locate
from privgen.errors import WeightsError
from privgen.phases import phase

PAIRS = 100
"""Most pairs of tiles per class and set; pairs share no tile, so that they are independent."""

MIN_SIDE = 64
"""Smaller tiles are enlarged to this side: AlexNet was made for 224 pixels."""

_ALEXNET_SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
_ALEXNET_BYTES = 244_408_911
_BATCH = 25
_CONFIDENCE = 0.95
_SYNTHETIC_NOTE = "Two tiles of a class; far below the holdout's, the generator repeats itself."
_HOLDOUT_NOTE = "The yardstick: real tiles of patients the generator never met."

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]]


def load_lpips(weights: Path | None = None) -> Distance:
    """The distance between two stacks of tiles, each uint8 (n, h, h, 3), as float64 (n,).

    Args:
      weights: torchvision's AlexNet weights; None looks in the caches and then fetches them.

    Raises:
      WeightsError: they are not on this machine and could not be fetched, or the file is another.
    """
    published = PublishedWeights(
        title="AlexNet (LPIPS backbone)",
        url=import_module("torchvision.models").AlexNet_Weights.IMAGENET1K_V1.url,
        sha256=_ALEXNET_SHA256,
        size=_ALEXNET_BYTES,
        option="`lpips_weights`",
    )
    network = lpips_network(load_weights(locate(published, given=weights)))

    def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = np.empty(len(first))
        with torch.inference_mode():
            for start in range(0, len(first), _BATCH):
                rows = slice(start, start + _BATCH)
                pair = (_signed(first[rows]), _signed(second[rows]))
                found[rows] = torch.as_tensor(network(*pair)).flatten().numpy()
        return found

    return distance


def lpips_network(alexnet: dict[str, Tensor]) -> nn.Module:
    """The package's network, its heads from the package and its backbone from `alexnet`.

    Args:
      alexnet: torchvision's state dictionary; its classifier is not used.

    Raises:
      WeightsError: the state does not fit.
    """
    package = import_module("lpips")
    with warnings.catch_warnings():
        # The package builds its backbone through an argument torchvision has renamed.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network: nn.Module = package.LPIPS(
            net="alex", pretrained=False, pnet_rand=True, verbose=False
        )
    heads = Path(str(package.__file__)).parent / "weights" / "v0.1" / "alex.pth"
    state = network.state_dict() | load_weights(heads)
    places = {name.split(".", 2)[-1]: name for name in state if name.startswith("net.slice")}
    features = {
        name.removeprefix("features."): tensor
        for name, tensor in alexnet.items()
        if name.startswith("features.")
    }
    if set(places) != set(features):
        raise WeightsError(
            f"the LPIPS backbone needs AlexNet's {len(places)} convolution tensors: got "
            f"{len(features)}. Give torchvision's AlexNet weights."
        )
    network.load_state_dict(state | {places[name]: value for name, value in features.items()})
    return network.eval().requires_grad_(False)


def perceptual_diversity(
    synthetic: TileSet, holdout: TileSet, *, weights: Path | bool = True, seed: int
) -> tuple[AuditResult, ...]:
    """Mean LPIPS between two tiles of a class, synthetic and, beside it, real.

    Args:
      synthetic: tiles to judge; classes that `holdout` does not know are left out, unless it knows
        none of them: then each set counts as one class.
      holdout: real tiles, the yardstick.
      weights: AlexNet's weights file, or True to find or fetch it.
      seed: of the pairs.

    Returns:
      `lpips_diversity/synthetic` and `lpips_diversity/holdout`, means over the classes, then the
      same for each class with at least 4 tiles on both sides. Empty when there is none.

    Raises:
      WeightsError: as `load_lpips`.

    Source: docs/methods.md#fidelity.
    """
    distance = load_lpips(weights if isinstance(weights, Path) else None)
    return diversity(distance, synthetic, holdout, seed=seed)


def diversity(
    distance: Distance, synthetic: TileSet, holdout: TileSet, *, seed: int
) -> tuple[AuditResult, ...]:
    """`perceptual_diversity` with any distance."""
    sets = {"synthetic": synthetic, "holdout": holdout}
    side = max(MIN_SIDE, min(native_side(tiles) for tiles in sets.values()))
    shared: list[str | None] = [*sorted(set(synthetic.classes) & set(holdout.classes))]
    shared = shared or [None]
    rng = np.random.default_rng(seed)
    by_class: dict[str, dict[str, NDArray[np.float64]]] = {}
    with phase("LPIPS", total=len(shared)) as comparing:
        for label in shared:
            rows = {
                role: np.arange(len(tiles)) if label is None else _rows(tiles, label)
                for role, tiles in sets.items()
            }
            if min(len(found) for found in rows.values()) >= 4:
                by_class[label or "all"] = {
                    role: _pair_distances(distance, tiles.subset(rows[role]), side, rng)
                    for role, tiles in sets.items()
                }
            comparing.advance()
    if not by_class:
        return ()
    return _results(by_class)


def _rows(tiles: TileSet, label: str) -> NDArray[np.intp]:
    return np.flatnonzero(tiles.labels == label)


def _pair_distances(
    distance: Distance, tiles: TileSet, side: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    pairs = min(PAIRS, len(tiles) // 2)
    pixels = tiles.subset(rng.permutation(len(tiles))[: 2 * pairs]).load(side)
    return distance(pixels[:pairs], pixels[pairs:])


def _results(by_class: dict[str, dict[str, NDArray[np.float64]]]) -> tuple[AuditResult, ...]:
    overall, single = [], []
    for role in ("synthetic", "holdout"):
        means, errors, count = [], [], 0
        for label, found in by_class.items():
            values = found[role]
            error = float(values.std(ddof=1)) / len(values) ** 0.5
            reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error
            single.append(_result(f"{role}/{label}", float(values.mean()), reach, len(values)))
            means.append(float(values.mean()))
            errors.append(error)
            count += len(values)
        reach = 1.96 * float(np.sqrt(np.square(errors).sum())) / len(errors)
        overall.append(_result(role, float(np.mean(means)), reach, count))
    return (*overall, *single)


def _result(name: str, value: float, reach: float, pairs: int) -> AuditResult:
    return AuditResult(
        name=f"lpips_diversity/{name}",
        harm=None,
        statistic=Estimate(
            value=value,
            low=max(value - reach, 0.0),
            high=value + reach,
            confidence=_CONFIDENCE,
            n=pairs,
            unit="pair",
        ),
        note=_SYNTHETIC_NOTE if name.startswith("synthetic") else _HOLDOUT_NOTE,
    )


def _signed(tiles: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, h, 3) to float (n, 3, h, h) in [-1, 1], as LPIPS expects."""
    return torch.from_numpy(tiles.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
