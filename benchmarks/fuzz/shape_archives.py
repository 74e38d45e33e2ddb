"""Changes of zip, npy, tar, safetensors and PyTorch files that keep checksums and lengths right."""

import ast
import contextlib
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.fuzz import by_bytes, shape_texts

Member = tuple[str, bytes]

_SHAPES = (
    *("(10**9,8,8,3)", "(4,-8,-8,3)", "(-1,)", "(0,8,8,3)", "(4,8,8,3,1)", "()", "(2**63,8,8,3)"),
    *("7", "('a',8,8,3)", "[4,8,8,3]", "(4.0,8,8,3)", "(True,8,8,3)", "(10**30,)", "None", "(4,)"),
    "(" * 900,
)
_TYPES = (
    *(
        "|u1",
        "<u2",
        "|O",
        "<U1",
        "<U0",
        "<U100000000",
        "|S4",
        "V9",
        "<f8",
        "<M8[ns]",
        "<c16",
        "|b1",
    ),
    *(">i8", "<i8", "<f2", "nonsense", "[('a','<i4')]", "<U2147483647", "u1,u1", "(2,3)u1", ""),
)


def zipped(members: Sequence[Member], packed: Sequence[int] = (zipfile.ZIP_STORED,)) -> bytes:
    """A zip of members in their order, packed in turns as asked; the same ones give its bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for at, (name, data) in enumerate(members):
            info = zipfile.ZipInfo(name)
            info.compress_type = packed[at % len(packed)]
            archive.writestr(info, data)
    return made.getvalue()


def unzipped(data: bytes) -> list[Member]:
    """The members of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def archive(draw: random.Random, data: bytes) -> bytes:
    """Another zip: members doubled, renamed, exchanged, changed, packed in other ways."""
    members = unzipped(data)
    packed: Sequence[int] = draw.choice(((0,), (8,), (0, 8)))
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(members))
        name, inner = members[at]
        way = draw.randrange(10)
        if way == 0:
            members.append((name, draw.choice(members)[1]))
        elif way == 1:
            members.insert(draw.randrange(2), (name.rpartition(".")[0] or name, inner))
        elif way == 2:
            members[at] = (draw.choice(shape_texts.names()).replace("\ud800", "x") or "x", inner)
        elif way == 3:
            members[at] = (name, members[draw.randrange(len(members))][1])
        elif way == 4:
            members[at] = (name, inner[: draw.randrange(len(inner) + 1)])
        elif way == 5:
            members += [(f"m{row}.npy", inner) for row in range(draw.choice((3, 300, 1001)))]
        elif way == 6:
            packed = draw.choice(((12,), (14,), (8,)))
        elif way == 7:
            members[at] = (name, inner + bytes(draw.choice((1, 2**20))))
        else:
            members[at] = (name, by_bytes.changed(draw, inner, [one for _, one in members]))
    made = zipped(members, packed)
    return _misdeclared(draw, made) if draw.random() < 0.2 else made


def _misdeclared(draw: random.Random, data: bytes) -> bytes:
    """The directory says another size of a member, packing, or number of members."""
    places = [at for at in range(len(data) - 46) if data[at : at + 4] == b"PK\1\2"]
    at = draw.choice(places) + draw.choice((8, 10, 20, 24, 28, 30, 42))
    field = struct.pack("<I", draw.choice((0, 1, 8, 12, 99, 0xFFFF, 2**31, 2**32 - 1)))
    return data[:at] + field + data[at + 4 :]


def arrays(draw: random.Random, data: bytes) -> bytes:
    """Another npz: the header of an array says another shape, type or order."""
    members = unzipped(data)
    at = draw.randrange(len(members))
    name, inner = members[at]
    length = int.from_bytes(inner[8:10], "little")
    said = ast.literal_eval(inner[10 : 10 + length].decode())
    shape, kind = repr(said["shape"]), said["descr"]
    order = str(said["fortran_order"])
    way = draw.randrange(4)
    if way in (0, 3):
        shape = (
            draw.choice(_SHAPES).replace("10**9", "1" + "0" * 9).replace("10**30", "1" + "0" * 30)
        )
        shape = shape.replace("2**63", str(2**63))
    if way in (1, 3):
        kind = draw.choice(_TYPES)
    if way == 2:
        order = draw.choice(("True", "None", "1", "'x'", "[" * 90))
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}}}".encode()
    text += b" " * draw.choice((0, 1, 20, 4200)) + b"\n"
    version = draw.choice((b"\1\0",) * 6 + (b"\2\0", b"\3\0", b"\xff\0"))
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    body = inner[10 + length :] if draw.random() < 0.8 else bytes(draw.choice((0, 10, 5000)))
    members[at] = (name, b"\x93NUMPY" + version + size + text + body)
    return zipped(members, draw.choice(((0,), (8,))))


def tarred(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of headers and contents, whatever size a header says."""
    made = b""
    for info, inner in members:
        made += info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        made += inner + bytes(-len(inner) % 512)
    return made + bytes(1024)


def member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A regular member of a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def untarred(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Headers and contents of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(info, archive.extractfile(info).read()) for info in archive if info.isreg()]  # type: ignore[union-attr]


def shard(draw: random.Random, data: bytes) -> bytes:
    """Another tar: members renamed, doubled, of other kinds, sizes and extended headers."""
    members = untarred(data)
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(members))
        info, inner = members[at]
        changed = tarfile.TarInfo(info.name)
        changed.size = info.size
        way = draw.randrange(9)
        if way == 0:
            changed.name = draw.choice(shape_texts.names()).replace("\ud800", "x")
        elif way == 1:
            changed.size = draw.choice((0, 1, info.size + 1, 2**20, 2**33, 2**62))
        elif way == 2:
            changed.type = draw.choice(
                (b"1", b"2", b"3", b"5", b"6", b"L", b"K", b"x", b"g", b"S", b"V")
            )
        elif way == 3:
            members.append((info, draw.choice(members)[1]))
        elif way == 4:
            fields = draw.choice(_PAX)
            head = tarfile.TarInfo("x")
            head.type, head.size = draw.choice((b"x", b"g", b"L")), len(fields)
            members.insert(at, (head, fields))
            at += 1
        elif way == 5:
            members += [members[at]] * draw.choice((2, 50))
        elif way == 6:
            changed.linkname = draw.choice((info.name, "../x", "/etc/passwd"))
            changed.type = draw.choice((b"1", b"2"))
        else:
            inner = by_bytes.changed(draw, inner, [one for _, one in members]) if inner else b"x"
            changed.size = len(inner)
        members[at] = (changed, inner)
    return tarred(members)


_PAX = (
    *(
        b"17 size=-1000000\n",
        b"12 size=abc\n",
        b"27 GNU.sparse.map=-1,-1,-1\n",
        b"20 size=99999999999\n",
    ),
    *(
        b"22 path=../../escape.png\n",
        b"12 path=a\0b\n",
        b"9999999999999 x=y\n",
        b"0 x=y\n",
        b"x" * 600,
    ),
    *(
        b"19 hdrcharset=BINARY\n",
        b"16 mtime=1e99999\n",
        b"6 a=b\n" * 300,
        b"18 GNU.sparse.major=1\n",
    ),
    *(b"28 GNU.sparse.realsize=" + b"9" * 40 + b"\n", b"13 uid=\xff\xfe\xfd\n", b"14 atime=nan\n"),
)


def safetensors_file(draw: random.Random, data: bytes) -> bytes:
    """Another generator file: its header twisted, or the description that stands in it as text."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if draw.random() < 0.6:
        described = json.loads(header["__metadata__"]["privgen"])
        text = shape_texts.json_text(shape_texts.twisted(draw, described)).decode()
        if draw.random() < 0.1:
            text = draw.choice(("", "[" * 5000, "{}", "null", "[]", '"x"', "1"))
        header["__metadata__"]["privgen"] = text
    else:
        header = shape_texts.twisted(draw, header)
    if draw.random() < 0.1:
        body = body[: draw.randrange(len(body) + 1)]
    text = shape_texts.json_text(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def checkpoint(sealed: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., bytes]:
    """A shape of `.pt` files: values twisted, and sealed anew where that is possible.

    Args:
      sealed: gives a checkpoint's content a seal that fits; may raise.
    """

    def shape(draw: random.Random, data: bytes) -> bytes:
        import torch

        content = torch.load(io.BytesIO(data), weights_only=True)
        if draw.random() < 0.3 and isinstance(content.get("ledger"), str):
            ledger = shape_texts.twisted(draw, json.loads(content["ledger"]))
            content["ledger"] = shape_texts.json_text(ledger).decode()
        elif draw.random() < 0.3:
            _other_tensor(draw, content)
        else:
            part = content[draw.choice(("config", "classes", "class_share"))]
            content = (
                shape_texts.twisted(draw, content, shared=True) if draw.random() < 0.5 else content
            )
            if isinstance(part, dict | list):
                shape_texts.twisted(draw, part, shared=True)
        with contextlib.suppress(Exception):  # what is no checkpoint has no seal
            content = sealed(content)
        made = io.BytesIO()
        torch.save(content, made)
        return made.getvalue()

    return shape


def _other_tensor(draw: random.Random, content: dict[str, Any]) -> None:
    """A tensor of another shape, type, layout or storage, or one that is no number."""
    import torch

    tensors = content[draw.choice(("average", "generator"))]
    name = draw.choice(list(tensors))
    one = tensors[name]
    tensors[name] = draw.choice(
        (
            lambda: torch.full(one.shape, float("nan")),
            lambda: one.reshape(-1)[:1].clone(),
            lambda: one.half(),
            lambda: one.to(torch.int64),
            lambda: one.to(torch.complex64),
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.zeros(1).expand(10**12),
            lambda: torch.zeros(one.shape, dtype=torch.bool),
            lambda: torch.zeros(1).expand(one.shape),
            lambda: torch.empty((0, *one.shape)),
            lambda: "text",
            lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        )
    )()
