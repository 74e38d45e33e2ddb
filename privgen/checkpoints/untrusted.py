"""What a checkpoint from elsewhere may be, judged before anything is built from it.

`weights_only=True` keeps code out. It does not keep out a list that holds itself twice forty levels
deep, a tensor of a terabyte over a storage of four bytes, a zip member that unpacks a thousandfold,
or a number of four hundred digits. Each has a rule here and a limit in `privgen.limits`.
"""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from privgen import limits
from privgen.data import class_names
from privgen.limits import shown

_PLAIN = (bool, float, type(None), torch.dtype, torch.device)
_LARGEST = 2**63

Numbers = Mapping[str, float]


def require_zip(path: Path) -> None:
    """Refuse a zip file that holds other than what `torch.save` writes.

    Raises:
      ValueError: too many members, packed ones, or more bytes than the file has.
      OSError, zipfile.BadZipFile: it cannot be read.
    """
    with path.open("rb") as raw:
        length = os.fstat(raw.fileno()).st_size
        if length > limits.CHECKPOINT_BYTES:
            raise limits.TooLargeError(
                f"a checkpoint may have {limits.size(limits.CHECKPOINT_BYTES)}, it has "
                f"{limits.size(length)}"
            )
        bounded = limits.Bounded(raw, limits.FOOTER_BYTES, "the directory of a checkpoint")
        with zipfile.ZipFile(cast(IO[bytes], bounded)) as archive:
            members = archive.infolist()
    if len(members) > limits.CHECKPOINT_MEMBERS:
        raise limits.TooLargeError(
            f"a checkpoint may have {limits.CHECKPOINT_MEMBERS} members, it has {len(members)}"
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members are packed, which torch.save never does")
    if sum(member.file_size for member in members) > length:
        raise ValueError("its members say that they are larger than the file")


def require_plain(content: object, length: int) -> None:
    """Refuse values that are no tensors and plain values, or far more of them than meet the eye.

    Args:
      content: what was read.
      length: bytes of the file.

    Raises:
      ValueError: it says what.
    """
    seen: dict[int, int] = {}
    stored = 0

    def weigh(value: object, depth: int) -> int:
        nonlocal stored
        if isinstance(value, Tensor):
            stored += _bytes_of(value)
            return 1
        if isinstance(value, str | bytes):
            if len(value) > limits.JSON_BYTES:
                raise limits.TooLargeError(f"a text has {limits.size(len(value))}")
            return 1
        if type(value) is int:
            if abs(value) >= _LARGEST:
                raise limits.TooLargeError("a whole number has more than 63 bits")
            return 1
        if isinstance(value, _PLAIN):
            return 1
        if not isinstance(value, dict | list | tuple | set):
            raise ValueError(f"it holds a {type(value).__name__}")
        if depth >= limits.PLAIN_DEPTH:
            raise limits.TooLargeError(f"it is nested more than {limits.PLAIN_DEPTH} deep")
        if id(value) not in seen:
            seen[id(value)] = limits.PLAIN_VALUES + 1  # until it is known: it may hold itself
            seen[id(value)] = 1 + sum(weigh(one, depth + 1) for one in _children(value))
        if seen[id(value)] > limits.PLAIN_VALUES:
            raise limits.TooLargeError(f"it has more than {limits.PLAIN_VALUES} values")
        return seen[id(value)]

    weigh(content, 0)
    if stored > 2 * length + limits.MIB:
        raise limits.TooLargeError(
            f"its tensors take {limits.size(stored)}, the file {limits.size(length)}"
        )


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield item
    elif isinstance(value, list | tuple | set):
        yield from value


def _bytes_of(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("a tensor is not dense and on the CPU")
    size = tensor.numel() * tensor.element_size()
    if size > tensor.untyped_storage().nbytes():
        raise limits.TooLargeError("a tensor is larger than what is stored of it")
    return size


def classes_of(value: object) -> tuple[str, ...]:
    """Names of classes.

    Raises:
      ValueError: it is no list of different names that classes may have.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("its classes are no list of names")
    if not value or len(set(value)) < len(value):
        raise ValueError("its classes are none, or one stands twice")
    if refused := class_names.refusal_of_all(value):
        raise ValueError(refused)
    return tuple(value)


def shares_of(value: object, classes: tuple[str, ...]) -> tuple[float, ...]:
    """Share of each class.

    Raises:
      ValueError: they are no shares, or not one per class.
    """
    if not isinstance(value, list | tuple) or len(value) != len(classes):
        raise ValueError(f"it has no share for each of {len(classes)} classes")
    shares = tuple(number(one, "a class share", 0.0, 1.0) for one in value)
    if abs(sum(shares) - 1) > 1e-3:
        raise ValueError(f"its class shares add up to {sum(shares):.6g}, not to 1")
    return shares


def number(value: object, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in a range.

    Raises:
      ValueError: it is none.
    """
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    if not fine or not low <= cast(float, value) <= high or abs(cast(float, value)) == math.inf:
        raise ValueError(f"{what} must be a number in [{low:g}, {high:g}]: got {shown(value)}")
    return float(cast(float, value))


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number in a range.

    Raises:
      ValueError: it is none.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} must be a whole number in [{low}, {high}]: got {shown(value)}")
    return value


def numbers_of(value: object, what: str) -> dict[str, float]:
    """Finite numbers by name.

    Raises:
      ValueError: it is no such thing.
    """
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} must be numbers by name")
    for name, one in value.items():
        number(one, f"{what} {shown(name)}")
    return value


def tensors_of(value: object, what: str) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
      ValueError: it is no such thing.
    """
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        raise ValueError(f"{what} must be tensors by name")
    return value


def mapping_of(value: object, what: str) -> dict[str, object]:
    """A dictionary.

    Raises:
      ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a dictionary: got a {type(value).__name__}")
    return value
