"""What tissues are built of: nuclei, loose matrix, collagen, capillaries, crypts.

Each function paints one structure on a `Canvas` in haematoxylin and eosin, over what is there.
Lengths are micrometres; angles are radians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privgen.data.phantom_canvas import FIELD, Canvas, Map, Points, smoothstep
from privgen.data.phantom_patient import Patient


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Where nuclei lie, and their shape.

    Attributes:
      x, y: centres, shape (k,).
      long, short: semi-axes before the patient's size, one number or shape (k,).
      angle: of the long axis, shape (k,).
    """

    x: Points
    y: Points
    long: Points | float
    short: Points | float
    angle: Points


def paint_nuclei(
    canvas: Canvas,
    patient: Patient,
    nuclei: Nuclei,
    *,
    where: NDArray[np.bool_] | None = None,
    tone: float,
    vary: float = 0.15,
    open_chromatin: float = 0.12,
) -> None:
    """Nuclei with a dark rim and clumped chromatin.

    Args:
      canvas: painted in place.
      patient: gives size, texture and its grain.
      nuclei: k of them.
      where: which of the k to paint, shape (k,); the others use up random numbers all the same,
        so that a cell more or less at a border changes nothing else.
      tone: haematoxylin of a typical nucleus.
      vary: relative spread of size and tone between nuclei.
      open_chromatin: how much paler the middle is than the rim, 0 to 1.
    """
    rng = canvas.rng
    swell = patient.nucleus * np.exp(rng.normal(0, 0.6 * vary, nuclei.x.size))
    tones = (tone * np.exp(rng.normal(0, vary, nuclei.x.size))).astype(np.float32)
    clumps = canvas.noise(patient.grain)
    ragged = 0.10 * canvas.noise(3.5)
    depth, owner = canvas.stamp(
        nuclei.x,
        nuclei.y,
        nuclei.long * swell,
        nuclei.short * swell,
        nuclei.angle,
        ragged,
        where=where,
    )
    if not (owner >= 0).any():
        return
    rim = np.exp(-np.square(np.clip(depth, 0, None) / 0.9))
    texture = 1 + 0.22 * patient.chromatin * clumps + open_chromatin * (1.4 * rim - 0.8)
    shade = tones[owner] * np.clip(texture, 0.25, 2.0)
    canvas.blend(0.93 * canvas.cover(depth), shade, 0.3 + 0.15 * tones[owner])


def paint_ground(
    canvas: Canvas, patient: Patient, haematoxylin: float, eosin: float, clearings: float
) -> None:
    """A loose matrix: faint fibres, and optically empty clearings over about `clearings` / 2."""
    angle = canvas.rng.uniform(0, np.pi)
    texture = canvas.fibres(angle, 18.0, 3.0, 6 * patient.wave * canvas.noise(24.0))
    canvas.blend(np.ones_like(texture), haematoxylin + 0.04 * texture, eosin * (1 + 0.25 * texture))
    gap = smoothstep(
        canvas.noise(6.5) + 0.3 * texture, 1.2 - 1.6 * clearings, 2.2 - 1.6 * clearings
    )
    canvas.blend(0.9 * gap, 0.02, 0.04)


def paint_collagen(canvas: Canvas, patient: Patient, spacing: float, loose: float) -> None:
    """Wavy collagen with clefts, spindle cells every `spacing` and a few round cells."""
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    bend = 7.0 * patient.wave * canvas.noise(26.0) + 1.6 * canvas.noise(8.0)
    wide = canvas.fibres(angle, 42.0, 7.0, bend)
    thin = canvas.fibres(angle, 24.0, 2.4, bend)
    fine = canvas.fibres(angle, 11.0, 1.3, bend + canvas.noise(5.0))
    eosin = rng.uniform(0.38, 0.9) + 0.13 * wide + 0.11 * thin + 0.12 * fine
    canvas.blend(np.ones_like(wide), rng.uniform(0.06, 0.25) + 0.04 * thin, np.clip(eosin, 0.05, 2))
    ragged = -wide - 0.4 * thin - 0.35 * fine
    gap = smoothstep(ragged, 1.8 - 1.5 * loose, 2.4 - 1.5 * loose)
    canvas.blend(0.9 * gap, 0.02, 0.05)
    x, y = canvas.scatter(spacing * patient.spacing, disorder=0.4)
    turn = angle - tilt(canvas, bend, angle, x, y) + rng.normal(0, 0.12, x.size)
    spindle = rng.random(x.size) < rng.uniform(0.65, 0.95)
    paint_nuclei(canvas, patient, Nuclei(x, y, 5.4, 1.35, turn), where=spindle, tone=1.15)
    paint_nuclei(canvas, patient, Nuclei(x, y, 3.1, 2.9, turn), where=~spindle, tone=1.35)


def paint_capillary(canvas: Canvas) -> None:
    """A small vessel: a flat endothelium around packed red cells."""
    rng = canvas.rng
    x, y = rng.uniform(15, FIELD - 15, (2, 1))
    angle = rng.uniform(0, np.pi, 1)
    long, short = rng.uniform(9, 20, 1), rng.uniform(5, 9, 1)
    depth, _ = canvas.stamp(x, y, long, short, angle, 0.1 * canvas.noise(9.0))
    canvas.blend(canvas.cover(depth + 1.5, 1.0), 0.15, 0.6)
    lumen = canvas.cover(depth, 1.0)
    canvas.blend(lumen, 0.02, 0.06)
    rx, ry = canvas.scatter(5.4, disorder=0.2)
    cells, _ = canvas.stamp(rx, ry, 2.7, 2.4, rng.uniform(0, np.pi, rx.size), 0.0)
    canvas.blend(lumen * canvas.cover(cells, 0.8), 0.02, 1.2)


def paint_lamina(canvas: Canvas, patient: Patient, outside: Map) -> None:
    """Plasma cells, lymphocytes and slim cells wherever `outside` (distance to a crypt) is > 3."""
    rng = canvas.rng
    x, y = canvas.scatter(rng.uniform(8.5, 11.5) * patient.spacing, disorder=0.3)
    keep = (canvas.at(outside, x, y) > 3.0) & (rng.random(x.size) < rng.uniform(0.55, 0.95))
    turn = rng.uniform(0, np.pi, x.size)
    slim = rng.random(x.size) < 0.3
    paint_nuclei(canvas, patient, Nuclei(x, y, 4.6, 1.4, turn), where=keep & slim, tone=1.1)
    paint_nuclei(canvas, patient, Nuclei(x, y, 3.2, 2.7, turn), where=keep & ~slim, tone=1.3)


class Crypt:
    """One crypt: an oval with an uneven outline, cells in a ring around a small lumen.

    Attributes:
      share: distance from the centre as a share of the outline's, shape (n, n): 1 on the outline.
      outside: about how far outside the outline a pixel is, shape (n, n).
    """

    def __init__(
        self, canvas: Canvas, x: float, y: float, radius: float, angle: float, stretch: float
    ) -> None:
        self.centre, self.radius, self.angle, self.stretch = (x, y), radius, angle, stretch
        rng = canvas.rng
        self.waves = rng.normal(0, [0.05, 0.035, 0.02])
        self.phases = rng.uniform(0, 2 * np.pi, 3)
        dx, dy = canvas.x - np.float32(x), canvas.y - np.float32(y)
        along = (dx * np.cos(angle) + dy * np.sin(angle)) / stretch
        across = dy * np.cos(angle) - dx * np.sin(angle)
        turn = np.arctan2(across, along)
        table = self._outline(np.linspace(-np.pi, np.pi, 257)).astype(np.float32)
        edge = table[((turn + np.pi) * (256 / (2 * np.pi))).astype(np.intp)]
        self.share: Map = (np.hypot(along, across) / edge).astype(np.float32)
        self.outside: Map = (self.share - 1) * np.float32(radius)

    def _outline(self, turn: Points) -> Points:
        uneven = np.zeros_like(turn)
        for order, (wave, phase) in enumerate(zip(self.waves, self.phases, strict=True), 2):
            uneven += wave * np.cos(order * turn + phase)
        return self.radius * (1 + uneven)

    def place(self, turn: Points, share: Points) -> tuple[Points, Points, Points]:
        """Position and outward direction of cells at a turn and a share of the radius."""
        reach = self._outline(turn) * share
        along, across = reach * np.cos(turn) * self.stretch, reach * np.sin(turn)
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        shift_x, shift_y = along * cosine - across * sine, along * sine + across * cosine
        outward = np.arctan2(np.sin(turn), np.cos(turn) / self.stretch) + self.angle
        return self.centre[0] + shift_x, self.centre[1] + shift_y, outward

    def paint(self, canvas: Canvas, patient: Patient) -> None:
        """Basement membrane, cytoplasm, goblets, lumen, basal nuclei."""
        rng = canvas.rng
        rim = canvas.cover(2.0 - np.abs(self.outside - 1.0), 1.5)
        canvas.blend(0.6 * rim, 0.1, rng.uniform(0.3, 0.6))
        body = canvas.cover(-self.outside, 1.0)
        grain = canvas.noise(3.0)
        canvas.blend(
            body, rng.uniform(0.22, 0.42) + 0.04 * grain, rng.uniform(0.3, 0.6) + 0.05 * grain
        )
        cells = round(2 * np.pi * self.radius * (1 + self.stretch) / 2 / 7.5)
        order = np.arange(cells)
        turn = 2 * np.pi * (order + rng.uniform(0, 1) + rng.normal(0, 0.12, cells)) / cells
        full = rng.random(cells) < patient.goblet
        width = self.radius * 2 * np.pi / cells
        mucin = rng.uniform(0.06, 0.22) * patient.mucin + 0.02 * grain
        outer = (0.61, 0.19 * self.radius, 0.43 * width, full)
        inner = (0.33, 0.11 * self.radius, 0.30 * width, full & (order % 2 == 0))
        for share, length, half_width, where in (outer, inner):
            gx, gy, outward = self.place(turn, share + rng.normal(0, 0.04, cells))
            half = half_width * rng.uniform(0.8, 1.2, cells)
            ragged = 0.06 * canvas.noise(4.0)
            depth, _ = canvas.stamp(gx, gy, length, half, outward, ragged, where=where)
            canvas.blend(0.95 * canvas.cover(depth, 0.8), mucin, 0.5 * mucin)
        lumen = canvas.cover((0.15 - self.share) * self.radius + 0.8 * canvas.noise(5.0), 1.2)
        canvas.blend(lumen, 0.03, 0.05)
        nx, ny, outward = self.place(turn + 0.3 / cells, 0.87 + rng.normal(0, 0.03, cells))
        flat = full & (rng.random(cells) < 0.6)
        long, short = np.where(flat, 2.2, 3.7), np.where(flat, 3.2, 2.3)
        paint_nuclei(canvas, patient, Nuclei(nx, ny, long, short, outward), tone=1.1)


def slope(canvas: Canvas, values: Map, x: Points, y: Points) -> tuple[Points, Points]:
    """Gradient of a map at points, per micrometre."""
    step = 2.0
    slope_x = canvas.at(values, x + step, y) - canvas.at(values, x - step, y)
    slope_y = canvas.at(values, x, y + step) - canvas.at(values, x, y - step)
    return slope_x / (2 * step), slope_y / (2 * step)


def tilt(canvas: Canvas, bend: Map, angle: float, x: Points, y: Points) -> Points:
    """How far fibres along `angle` turn where `bend` shifts them, in radians."""
    slope_x, slope_y = slope(canvas, bend, x, y)
    turned = np.arctan(slope_x * np.cos(angle) + slope_y * np.sin(angle))
    return np.asarray(turned, dtype=np.float64)
