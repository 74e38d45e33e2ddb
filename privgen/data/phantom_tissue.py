"""Nine colorectal tissues painted in stain space, one function a class of NCT-CRC-HE.

Each painter fills a `Canvas` with haematoxylin and eosin for one tile of one patient. The tissues
are told apart by architecture, not by colour: amount of cytoplasm, cellularity and clearings vary
from tile to tile within every class, so that their colours overlap as they do on real slides.

Histology followed: Kather, Halama & Marx 2018, "100,000 histological images of human colorectal
cancer", and any atlas of the colon. Lengths are micrometres.
"""

from collections.abc import Callable

import numpy as np

from privgen.data.phantom_canvas import FIELD, Canvas, smoothstep
from privgen.data.phantom_parts import (
    Crypt,
    Nuclei,
    paint_capillary,
    paint_collagen,
    paint_ground,
    paint_lamina,
    paint_nuclei,
    slope,
    tilt,
)
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
    across_x, across_y = slope(canvas, wall, x, y)
    angle = np.arctan2(across_y, across_x) + np.pi / 2
    paint_nuclei(canvas, patient, Nuclei(x, y, 3.4, 1.5, angle), where=keep, tone=1.1)


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
        rng.uniform(0.10, 0.40) + 0.10 * rubble,
        rng.uniform(0.28, 0.80) + 0.16 * rubble,
    )
    x, y = canvas.scatter(rng.uniform(10, 14) * patient.spacing, disorder=0.35)
    size = rng.uniform(2.5, 5.0, x.size)
    depth, _ = canvas.stamp(x, y, size * 1.2, size, rng.uniform(0, np.pi, x.size), 0.12 * middle)
    ghost = canvas.cover(depth, 2.0) * smoothstep(coarse, -0.5, 1.0)
    canvas.blend(0.45 * ghost, 0.45 + 0.1 * fine, 0.75)
    x, y = canvas.scatter(rng.uniform(3.6, 5.5), disorder=0.45)
    crowd = np.clip(canvas.at(canvas.noise(13.0), x, y) * 0.35 + rng.uniform(0.08, 0.6), 0, 1)
    size = rng.uniform(0.5, 1.5, x.size)
    turn = rng.uniform(0, np.pi, x.size)
    depth, _ = canvas.stamp(x, y, 1.3 * size, size, turn, 0.0, where=rng.random(x.size) < crowd)
    canvas.blend(0.85 * canvas.cover(depth), rng.uniform(0.9, 1.5), 0.5)
    cracks = canvas.fibres(rng.uniform(0, np.pi), 26.0, 11.0, 8 * canvas.noise(15.0))
    open_crack = smoothstep(cracks + 0.3 * middle, rng.uniform(0.3, 2.4), 3.0)
    canvas.blend(open_crack, 0.02, 0.04)


def paint_lymphocytes(canvas: Canvas, patient: Patient) -> None:
    """A lymphoid aggregate: small round dark nuclei, shoulder to shoulder, hardly any cytoplasm."""
    rng = canvas.rng
    stain = rng.uniform(0.12, 0.4)
    paint_ground(canvas, patient, stain * 0.5, rng.uniform(0.2, 0.5), clearings=rng.uniform(0, 0.5))
    x, y = canvas.scatter(rng.uniform(7.0, 10.0) * patient.spacing, disorder=0.2)
    sparse = canvas.at(canvas.noise(22.0), x, y)
    keep = rng.random(x.size) < 0.93 - 0.12 * np.clip(sparse, 0, 3)
    pale = (rng.random(x.size) < rng.uniform(0.02, 0.22)) & keep
    turn = rng.uniform(0, np.pi, x.size)
    paint_nuclei(canvas, patient, Nuclei(x, y, 4.6, 3.6, turn), where=pale, tone=0.7)
    paint_nuclei(
        canvas, patient, Nuclei(x, y, 3.3, 3.0, turn), where=keep & ~pale, tone=1.35, vary=0.14
    )


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
        (0.11 + 0.04 * wide + 0.05 * cloud + 0.02 * speck) * patient.mucin * rng.uniform(0.35, 2.4)
    )
    canvas.blend(np.ones_like(wide), np.clip(body, 0.01, None), 0.5 * np.clip(body, 0.01, None))
    strand = smoothstep(0.1 * speck - np.abs(thin), -0.30, -0.02)
    strand *= smoothstep(wide + cloud, -0.6, 1.4)
    canvas.blend(0.7 * strand, rng.uniform(0.25, 0.45), rng.uniform(0.15, 0.5))
    if rng.random() < 0.45:
        septum = smoothstep(canvas.fibres(angle, 400.0, 60.0, swirl), 0.9, 1.3)
        texture = canvas.fibres(angle, 30.0, 3.0, swirl)
        canvas.blend(septum, 0.18 + 0.05 * texture, 0.5 + 0.15 * texture)
    x, y = canvas.scatter(10.0, disorder=0.4)
    crowd = canvas.at(canvas.noise(16.0), x, y)
    keep = crowd > rng.uniform(1.1, 2.3)
    turn = rng.uniform(0, np.pi, x.size)
    depth, _ = canvas.stamp(x, y, 6.5, 5.5, turn, 0.1 * canvas.noise(4.0), where=keep)
    canvas.blend(0.7 * canvas.cover(depth, 1.5), 0.2, rng.uniform(0.3, 0.6))
    paint_nuclei(canvas, patient, Nuclei(x, y, 3.4, 2.9, turn), where=keep, tone=1.1)


def paint_muscle(canvas: Canvas, patient: Patient) -> None:
    """Smooth muscle: dense parallel bundles with slim clefts; long blunt nuclei lie along them."""
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    bend = 3.0 * patient.wave * canvas.noise(48.0)
    bundle = canvas.fibres(angle, 130.0, 12.0, bend)
    strand = canvas.fibres(angle, 60.0, 2.6, bend)
    fine = canvas.fibres(angle, 22.0, 1.1, bend)
    eosin = rng.uniform(0.38, 0.9) + 0.08 * bundle + 0.09 * strand + 0.08 * fine
    canvas.blend(np.ones_like(bundle), rng.uniform(0.06, 0.25) + 0.04 * strand, eosin)
    cleft = smoothstep(-np.abs(bundle), -0.16, -0.02) * smoothstep(canvas.noise(26.0), -0.4, 0.8)
    canvas.blend(smoothstep(cleft - 0.15 * fine, 0.1, 0.9) * rng.uniform(0.3, 1.0), 0.03, 0.07)
    x, y = canvas.scatter(rng.uniform(12, 19) * patient.spacing, disorder=0.4)
    turn = angle - tilt(canvas, bend, angle, x, y) + rng.normal(0, 0.05, x.size)
    paint_nuclei(canvas, patient, Nuclei(x, y, 7.5, 1.6, turn), tone=1.0, vary=0.22)


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
        Crypt(canvas, cx, cy, size, angle + rng.normal(0, 0.15), stretch) for cx, cy, size in crypts
    ]
    for crypt in drawn:
        outside = np.minimum(outside, crypt.outside)
    paint_lamina(canvas, patient, outside)
    for crypt in drawn:
        crypt.paint(canvas, patient)


def paint_stroma(canvas: Canvas, patient: Patient) -> None:
    """Stroma: wavy collagen in loose strands, slim fibroblasts, a few round cells, a capillary."""
    rng = canvas.rng
    paint_collagen(canvas, patient, rng.uniform(14, 24), rng.uniform(0.0, 0.9))
    if rng.random() < 0.3:
        paint_capillary(canvas)


def paint_tumour(canvas: Canvas, patient: Patient) -> None:
    """Tumour: crowded, uneven, dark nuclei stacked around ragged lumens; stroma between nests."""
    rng = canvas.rng
    paint_collagen(canvas, patient, rng.uniform(12, 20), rng.uniform(0.0, 0.9))
    form = canvas.noise(rng.uniform(20, 27)) + 0.25 * canvas.noise(9.0)
    grade = np.clip(patient.grade + rng.normal(0, 0.25), 0, 1)
    nest, lumen = rng.uniform(-1.0, -0.1), 0.65 + 1.1 * grade
    steep = np.float32(9.0)
    inside = canvas.cover((form - np.float32(nest)) * steep, 1.2)
    grain = canvas.noise(3.0)
    cytoplasm = rng.uniform(0.16, 0.5)
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
    slope_x, slope_y = slope(canvas, form, x, y)
    angle = np.arctan2(slope_y, slope_x) + rng.normal(0, 0.25 + 0.7 * grade, x.size)
    swell = np.exp(rng.normal(0, 0.10 + 0.12 * grade, x.size))
    long, short = (4.9 - 0.4 * grade) * swell, (2.5 + 0.9 * grade) * swell
    paint_nuclei(
        canvas,
        patient,
        Nuclei(x, y, long, short, angle),
        where=keep,
        tone=1.0,
        vary=0.25,
        open_chromatin=0.35,
    )
    size = rng.uniform(0.6, 1.1, x.size)
    off_x, off_y = rng.normal(0, 0.8, (2, x.size))
    depth, _ = canvas.stamp(x + off_x, y + off_y, size, size, angle, 0.0, where=keep)
    canvas.blend(0.7 * canvas.cover(depth), 1.5, 0.6)


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
"""Painter of each class; its place here is the class number of the random streams."""
