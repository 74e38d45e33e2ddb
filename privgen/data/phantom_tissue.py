"""Nine colorectal tissues painted in stain space, one function a class of NCT-CRC-HE.

Each painter fills a `Canvas` with haematoxylin and eosin for one tile of one patient. The tissues
are told apart by architecture, not by colour: amount of cytoplasm, cellularity and clearings vary
from tile to tile within every class, so that their colours overlap as they do on real slides.

Histology followed: Kather, Halama & Marx 2018, "100,000 histological images of human colorectal
cancer", and any atlas of the colon. Lengths are micrometres.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privgen.data.phantom_canvas import FIELD, Canvas, Map, Points, smoothstep
from privgen.data.phantom_patient import Patient

Painter = Callable[[Canvas, Patient], None]


def paint_adipose(canvas: Canvas, patient: Patient) -> None:
    """Fat: large empty cells with thin walls, flat nuclei in the corners, now and then a septum."""
    rng = canvas.rng
    centres = canvas.scatter(rng.uniform(34, 58) * patient.fat, disorder=0.16)
    wall, corner = canvas.voronoi(*centres, warp=2.0)
    thick = rng.uniform(0.7, 1.5) + 0.5 * canvas.noise(9.0)
    membrane = canvas.cover(thick + np.clip(3.0 - corner, 0, 3) * 0.8 - wall, 1.0)
    lipid = 0.02 + 0.03 * rng.random() + 0.01 * canvas.noise(20.0)
    canvas.blend(np.ones_like(wall), 0.4 * lipid, lipid)
    if rng.random() < 0.45:
        septum = canvas.fibres(rng.uniform(0, np.pi), 300.0, 70.0, 6 * canvas.noise(40.0))
        band = smoothstep(septum, 1.0, 1.5)
        membrane = np.maximum(membrane, band)
    texture = canvas.fibres(rng.uniform(0, np.pi), 14.0, 2.5, 3 * canvas.noise(18.0))
    canvas.blend(membrane, 0.16 + 0.05 * texture, 0.55 + 0.14 * texture)
    x, y = canvas.scatter(11.0)
    keep = (canvas.at(wall, x, y) < 1.8) & (rng.random(x.size) < rng.uniform(0.08, 0.4))
    across_x, across_y = _slope(canvas, wall, x, y)
    angle = np.arctan2(across_y, across_x) + np.pi / 2
    paint_nuclei(canvas, patient, x, y, 3.4, 1.5, angle, where=keep, tone=1.1)


def paint_background(canvas: Canvas, patient: Patient) -> None:
    """Empty glass: a trace of haze, a shadow towards one side, a few specks of dust."""
    rng = canvas.rng
    direction = rng.uniform(0, 2 * np.pi)
    ramp = (canvas.x * np.cos(direction) + canvas.y * np.sin(direction)) / FIELD
    haze = rng.uniform(0.0, 0.05) + rng.uniform(0.0, 0.03) * ramp + 0.006 * canvas.noise(30.0)
    canvas.blend(np.ones_like(haze), np.clip(haze, 0, None), 0.5 * np.clip(haze, 0, None))
    count = rng.poisson(1.5)
    x, y = rng.uniform(0, FIELD, (2, count))
    size = rng.uniform(0.5, 1.6, count)
    depth, _ = canvas.stamp(x, y, 1.4 * size, size, rng.uniform(0, np.pi, count), 0.0)
    canvas.blend(0.5 * canvas.cover(depth, 1.5), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5))


def paint_debris(canvas: Canvas, patient: Patient) -> None:
    """Necrosis: granular pink rubble with cracks, nuclear dust, and ghosts of dead cells."""
    rng = canvas.rng
    coarse, middle, fine = canvas.noise(16.0), canvas.noise(5.0), canvas.noise(1.6)
    rubble = 0.35 * coarse + 0.45 * middle + 0.5 * fine
    canvas.blend(
        np.ones_like(coarse),
        rng.uniform(0.12, 0.40) + 0.10 * rubble,
        rng.uniform(0.35, 0.75) + 0.16 * rubble,
    )
    x, y = canvas.scatter(rng.uniform(10, 14) * patient.spacing, disorder=0.35)
    size = rng.uniform(2.5, 5.0, x.size)
    depth, _ = canvas.stamp(x, y, size * 1.2, size, rng.uniform(0, np.pi, x.size), 0.12 * middle)
    ghost = canvas.cover(depth, 2.0) * smoothstep(coarse, -0.5, 1.0)
    canvas.blend(0.45 * ghost, 0.45 + 0.1 * fine, 0.75)
    x, y = canvas.scatter(rng.uniform(3.6, 5.5), disorder=0.45)
    crowd = np.clip(canvas.at(canvas.noise(13.0), x, y) * 0.35 + rng.uniform(0.15, 0.5), 0, 1)
    size = rng.uniform(0.5, 1.5, x.size)
    turn = rng.uniform(0, np.pi, x.size)
    depth, _ = canvas.stamp(x, y, 1.3 * size, size, turn, 0.0, where=rng.random(x.size) < crowd)
    canvas.blend(0.85 * canvas.cover(depth), rng.uniform(0.9, 1.5), 0.5)
    cracks = canvas.fibres(rng.uniform(0, np.pi), 26.0, 11.0, 8 * canvas.noise(15.0))
    open_crack = smoothstep(cracks + 0.3 * middle, rng.uniform(1.0, 2.4), 3.0)
    canvas.blend(open_crack, 0.02, 0.04)


def paint_lymphocytes(canvas: Canvas, patient: Patient) -> None:
    """A lymphoid aggregate: small round dark nuclei, shoulder to shoulder, hardly any cytoplasm."""
    rng = canvas.rng
    stain = rng.uniform(0.12, 0.4)
    paint_ground(canvas, patient, stain * 0.5, rng.uniform(0.2, 0.5), clearings=rng.uniform(0, 0.5))
    x, y = canvas.scatter(rng.uniform(7.0, 9.0) * patient.spacing, disorder=0.2)
    sparse = canvas.at(canvas.noise(22.0), x, y)
    keep = rng.random(x.size) < 0.93 - 0.12 * np.clip(sparse, 0, 3)
    pale = (rng.random(x.size) < rng.uniform(0.02, 0.22)) & keep
    turn = rng.uniform(0, np.pi, x.size)
    paint_nuclei(canvas, patient, x, y, 4.6, 3.6, turn, where=pale, tone=0.7)
    paint_nuclei(canvas, patient, x, y, 3.3, 3.0, turn, where=keep & ~pale, tone=1.35, vary=0.14)


def paint_mucus(canvas: Canvas, patient: Patient) -> None:
    """A mucin pool: pale, stringy and swirling, with a few cells afloat."""
    rng = canvas.rng
    swirl = 14 * patient.wave * canvas.noise(34.0) + 3 * canvas.noise(12.0)
    angle = rng.uniform(0, np.pi)
    wide = canvas.fibres(angle, 60.0, 9.0, swirl)
    thin = canvas.fibres(angle, 45.0, 2.6, swirl)
    cloud = canvas.noise(28.0)
    speck = canvas.noise(2.0)
    body = (
        (0.11 + 0.04 * wide + 0.05 * cloud + 0.02 * speck) * patient.mucin * rng.uniform(0.5, 1.8)
    )
    canvas.blend(np.ones_like(wide), np.clip(body, 0.01, None), 0.5 * np.clip(body, 0.01, None))
    strand = smoothstep(0.1 * speck - np.abs(thin), -0.30, -0.02)
    strand *= smoothstep(wide + cloud, -0.6, 1.4)
    canvas.blend(0.7 * strand, rng.uniform(0.25, 0.45), rng.uniform(0.15, 0.5))
    if rng.random() < 0.35:
        septum = smoothstep(canvas.fibres(angle, 400.0, 60.0, swirl), 0.9, 1.3)
        texture = canvas.fibres(angle, 30.0, 3.0, swirl)
        canvas.blend(septum, 0.18 + 0.05 * texture, 0.5 + 0.15 * texture)
    x, y = canvas.scatter(10.0, disorder=0.4)
    crowd = canvas.at(canvas.noise(16.0), x, y)
    keep = crowd > rng.uniform(1.1, 2.3)
    turn = rng.uniform(0, np.pi, x.size)
    depth, _ = canvas.stamp(x, y, 6.5, 5.5, turn, 0.1 * canvas.noise(4.0), where=keep)
    canvas.blend(0.7 * canvas.cover(depth, 1.5), 0.2, rng.uniform(0.3, 0.6))
    paint_nuclei(canvas, patient, x, y, 3.4, 2.9, turn, where=keep, tone=1.1)


def paint_muscle(canvas: Canvas, patient: Patient) -> None:
    """Smooth muscle: dense parallel bundles with slim clefts; long blunt nuclei lie along them."""
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    bend = 3.0 * patient.wave * canvas.noise(48.0)
    bundle = canvas.fibres(angle, 130.0, 12.0, bend)
    strand = canvas.fibres(angle, 60.0, 2.6, bend)
    fine = canvas.fibres(angle, 22.0, 1.1, bend)
    eosin = rng.uniform(0.5, 0.95) + 0.08 * bundle + 0.09 * strand + 0.08 * fine
    canvas.blend(np.ones_like(bundle), rng.uniform(0.08, 0.28) + 0.04 * strand, eosin)
    cleft = smoothstep(-np.abs(bundle), -0.16, -0.02) * smoothstep(canvas.noise(26.0), -0.4, 0.8)
    canvas.blend(smoothstep(cleft - 0.15 * fine, 0.1, 0.9) * rng.uniform(0.3, 0.9), 0.04, 0.1)
    x, y = canvas.scatter(rng.uniform(12, 19) * patient.spacing, disorder=0.4)
    turn = angle - _tilt(canvas, bend, angle, x, y) + rng.normal(0, 0.05, x.size)
    paint_nuclei(canvas, patient, x, y, 7.5, 1.6, turn, tone=1.0, vary=0.22)


def paint_mucosa(canvas: Canvas, patient: Patient) -> None:
    """Normal mucosa: regular crypts lined by goblet cells, cellular lamina propria between."""
    rng = canvas.rng
    paint_ground(
        canvas, patient, rng.uniform(0.05, 0.2), rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.8)
    )
    radius = 27.0 * patient.crypt
    x, y = canvas.scatter(2 * radius + rng.uniform(9, 17), disorder=0.05)
    stretch = rng.uniform(1.0, 1.45)
    angle = rng.uniform(0, np.pi)
    crypts = [(cx, cy, radius * rng.uniform(0.85, 1.08)) for cx, cy in zip(x, y, strict=True)]
    outside = np.full((canvas.n, canvas.n), FIELD, np.float32)
    drawn = [
        _Crypt(canvas, cx, cy, size, angle + rng.normal(0, 0.15), stretch)
        for cx, cy, size in crypts
    ]
    for crypt in drawn:
        outside = np.minimum(outside, crypt.outside)
    paint_lamina(canvas, patient, outside)
    for crypt in drawn:
        crypt.paint(canvas, patient)


class _Crypt:
    """One crypt: an oval with an uneven outline, cells in a ring around a small lumen."""

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
        waves = [
            w * np.cos(k * turn + p) for k, (w, p) in enumerate(zip(self.waves, self.phases), 2)
        ]
        return self.radius * (1 + np.sum(waves, axis=0))

    def place(self, turn: Points, share: Points) -> tuple[Points, Points, Points]:
        """Position and outward direction of cells at a turn and a share of the radius."""
        reach = self._outline(turn) * share
        along, across = reach * np.cos(turn) * self.stretch, reach * np.sin(turn)
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        shift_x, shift_y = along * cosine - across * sine, along * sine + across * cosine
        outward = np.arctan2(np.sin(turn) / 1.0, np.cos(turn) / self.stretch) + self.angle
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
        turn = (
            2 * np.pi * (np.arange(cells) + rng.uniform(0, 1) + rng.normal(0, 0.12, cells)) / cells
        )
        full = rng.random(cells) < patient.goblet
        width = self.radius * 2 * np.pi / cells
        mucin = rng.uniform(0.06, 0.22) * patient.mucin + 0.02 * grain
        outer = (0.61, 0.19 * self.radius, 0.43 * width, full)
        inner = (0.33, 0.11 * self.radius, 0.30 * width, full & (np.arange(cells) % 2 == 0))
        for share, long, short, where in (outer, inner):
            gx, gy, outward = self.place(turn, share + rng.normal(0, 0.04, cells))
            half = short * rng.uniform(0.8, 1.2, cells)
            ragged = 0.06 * canvas.noise(4.0)
            depth, _ = canvas.stamp(gx, gy, long, half, outward, ragged, where=where)
            canvas.blend(0.95 * canvas.cover(depth, 0.8), mucin, 0.5 * mucin)
        lumen = canvas.cover((0.15 - self.share) * self.radius + 0.8 * canvas.noise(5.0), 1.2)
        canvas.blend(lumen, 0.03, 0.05)
        nx, ny, outward = self.place(turn + 0.3 / cells, 0.87 + rng.normal(0, 0.03, cells))
        flat = full & (rng.random(cells) < 0.6)
        paint_nuclei(
            canvas,
            patient,
            nx,
            ny,
            np.where(flat, 2.2, 3.7),
            np.where(flat, 3.2, 2.3),
            outward,
            tone=1.1,
        )


def paint_stroma(canvas: Canvas, patient: Patient) -> None:
    """Stroma: wavy collagen in loose strands, slim fibroblasts, a few round cells, a capillary."""
    rng = canvas.rng
    paint_collagen(canvas, patient, rng.uniform(14, 24), rng.uniform(0.0, 0.9))
    if rng.random() < 0.3:
        paint_capillary(canvas, patient)


def paint_tumour(canvas: Canvas, patient: Patient) -> None:
    """Tumour: crowded, uneven, dark nuclei stacked around ragged lumens; stroma between nests."""
    rng = canvas.rng
    paint_collagen(canvas, patient, rng.uniform(12, 20), rng.uniform(0.0, 0.9))
    form = canvas.noise(rng.uniform(20, 27)) + 0.25 * canvas.noise(9.0)
    grade = np.clip(patient.grade + rng.normal(0, 0.25), 0, 1)
    nest, lumen = rng.uniform(-1.0, -0.4), 0.65 + 1.1 * grade
    steep = np.float32(9.0)
    inside = canvas.cover((form - np.float32(nest)) * steep, 1.2)
    grain = canvas.noise(3.0)
    cytoplasm = rng.uniform(0.22, 0.5)
    canvas.blend(inside, cytoplasm + 0.06 * grain, rng.uniform(0.35, 0.75) + 0.07 * grain)
    hollow = canvas.cover((form - np.float32(lumen)) * steep, 1.2)
    canvas.blend(hollow, 0.03, 0.05)
    if rng.random() < 0.35:
        dirt = smoothstep(0.7 * canvas.noise(1.6) + canvas.noise(10.0), -0.4, 2.4)
        canvas.blend(hollow * dirt, rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.9))
    x, y = canvas.scatter(rng.uniform(7.6, 9.2) * patient.spacing * patient.nucleus, disorder=0.2)
    level = canvas.at(form, x, y)
    apical = 0.22 + 0.3 * (1 - grade)
    keep = (level > nest + 0.12) & (level < lumen - apical) & (rng.random(x.size) < 0.95)
    slope_x, slope_y = _slope(canvas, form, x, y)
    angle = np.arctan2(slope_y, slope_x) + rng.normal(0, 0.25 + 0.7 * grade, x.size)
    swell = np.exp(rng.normal(0, 0.10 + 0.12 * grade, x.size))
    long, short = (4.9 - 0.4 * grade) * swell, (2.5 + 0.9 * grade) * swell
    look = {"tone": 1.0, "vary": 0.25, "open_chromatin": 0.35}
    paint_nuclei(canvas, patient, x, y, long, short, angle, where=keep, **look)
    size = rng.uniform(0.6, 1.1, x.size)
    off_x, off_y = rng.normal(0, 0.8, (2, x.size))
    depth, _ = canvas.stamp(x + off_x, y + off_y, size, size, angle, 0.0, where=keep)
    canvas.blend(0.7 * canvas.cover(depth), 1.5, 0.6)


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
    eosin = rng.uniform(0.35, 0.8) + 0.13 * wide + 0.11 * thin + 0.12 * fine
    canvas.blend(np.ones_like(wide), rng.uniform(0.06, 0.25) + 0.04 * thin, np.clip(eosin, 0.05, 2))
    ragged = -wide - 0.4 * thin - 0.35 * fine
    gap = smoothstep(ragged, 1.8 - 1.5 * loose, 2.4 - 1.5 * loose)
    canvas.blend(0.9 * gap, 0.02, 0.05)
    x, y = canvas.scatter(spacing * patient.spacing, disorder=0.4)
    turn = angle - _tilt(canvas, bend, angle, x, y) + rng.normal(0, 0.12, x.size)
    spindle = rng.random(x.size) < rng.uniform(0.65, 0.95)
    paint_nuclei(canvas, patient, x, y, 5.4, 1.35, turn, where=spindle, tone=1.15)
    paint_nuclei(canvas, patient, x, y, 3.1, 2.9, turn, where=~spindle, tone=1.35)


def paint_lamina(canvas: Canvas, patient: Patient, outside: Map) -> None:
    """Plasma cells, lymphocytes and slim cells wherever `outside` (distance to a crypt) is > 3."""
    rng = canvas.rng
    x, y = canvas.scatter(rng.uniform(8.5, 11.5) * patient.spacing, disorder=0.3)
    keep = (canvas.at(outside, x, y) > 3.0) & (rng.random(x.size) < rng.uniform(0.55, 0.95))
    turn = rng.uniform(0, np.pi, x.size)
    slim = rng.random(x.size) < 0.3
    paint_nuclei(canvas, patient, x, y, 4.6, 1.4, turn, where=keep & slim, tone=1.1)
    paint_nuclei(canvas, patient, x, y, 3.2, 2.7, turn, where=keep & ~slim, tone=1.3)


def paint_capillary(canvas: Canvas, patient: Patient) -> None:
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


def paint_nuclei(
    canvas: Canvas,
    patient: Patient,
    x: Points,
    y: Points,
    long: Points | float,
    short: Points | float,
    angle: Points,
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
      x, y, angle: shape (k,).
      long, short: semi-axes before the patient's size, one number or shape (k,).
      where: which of the k to paint, shape (k,); the others use up random numbers all the same,
        so that a cell more or less at a border changes nothing else.
      tone: haematoxylin of a typical nucleus.
      vary: relative spread of size and tone between nuclei.
      open_chromatin: how much paler the middle is than the rim, 0 to 1.
    """
    rng = canvas.rng
    swell = patient.nucleus * np.exp(rng.normal(0, 0.6 * vary, x.size))
    tones = (tone * np.exp(rng.normal(0, vary, x.size))).astype(np.float32)
    clumps = canvas.noise(patient.grain)
    ragged = 0.10 * canvas.noise(3.5)
    depth, owner = canvas.stamp(x, y, long * swell, short * swell, angle, ragged, where=where)
    if not x.size:
        return
    rim = np.exp(-np.square(np.clip(depth, 0, None) / 0.9))
    texture = 1 + 0.22 * patient.chromatin * clumps + open_chromatin * (1.4 * rim - 0.8)
    shade = tones[owner] * np.clip(texture, 0.25, 2.0)
    canvas.blend(0.93 * canvas.cover(depth), shade, 0.3 + 0.15 * tones[owner])


def _slope(canvas: Canvas, values: Map, x: Points, y: Points) -> tuple[Points, Points]:
    """Gradient of a map at points, per micrometre."""
    step = 2.0
    slope_x = canvas.at(values, x + step, y) - canvas.at(values, x - step, y)
    slope_y = canvas.at(values, x, y + step) - canvas.at(values, x, y - step)
    return slope_x / (2 * step), slope_y / (2 * step)


def _tilt(canvas: Canvas, bend: Map, angle: float, x: Points, y: Points) -> Points:
    """How far fibres along `angle` turn where `bend` shifts them, in radians."""
    slope_x, slope_y = _slope(canvas, bend, x, y)
    return np.arctan(slope_x * np.cos(angle) + slope_y * np.sin(angle))


PAINTERS: dict[str, Painter] = {
    "ADI": paint_adipose,
    "BACK": paint_background,
    "DEB": paint_debris,
    "LYM": paint_lymphocytes,
    "MUC": paint_mucus,
    "MUS": paint_muscle,
    "NORM": paint_mucosa,
    "STR": paint_stroma,
    "TUM": paint_tumour,
}
"""Painter of each class; the order is the class number of the random streams."""
