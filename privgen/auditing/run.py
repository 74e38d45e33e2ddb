"""From tiles, or a generator and its ledger, to a verdict and its report.

`audit` takes anybody's images (folders, tile sets, arrays, a function that makes them) or one of
privgen's own generators, whose ledger finds the real tiles. It gathers the evidence, lets `audits`
judge it, and returns the report as data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import audits
from audits.battery import judge
from audits.copy_evidence import ALIGNED
from privgen import console
from privgen.auditing.aligning import (
    LEFT_OUT,
    MOST_PAIRS,
    SAME_PATIENTS,
    opened_search,
    pairs,
    require_compatible,
)
from privgen.auditing.gallery import near_train, sample_grid
from privgen.auditing.tiles import (
    OnBadTile,
    RealSource,
    SyntheticSource,
    constants_of,
    from_ledger,
    given_tiles,
    synthetic_tiles,
)
from privgen.auditing.weaker import (
    DEFAULT_COUNT,
    DEFAULT_ENCODER,
    Weaker,
    skipped_files,
    weaker_than_default,
)
from privgen.copysearch.searching import Search
from privgen.data.colour import Icc
from privgen.data.remarks import by_role
from privgen.data.splits import incomparable, require_disjoint
from privgen.data.tileset import TileSet
from privgen.documents import DocumentError, parse_toml, read_text
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import load_encoder
from privgen.errors import ConfigError, InputError, WeightsError
from privgen.evidence.collect import collect, plain_features
from privgen.evidence.order import in_order
from privgen.evidence.perceptual import perceptual_diversity
from privgen.evidence.suspects import choose
from privgen.files import empty_folder
from privgen.insider.attacks import ROLES, insider_scores, load_discriminator, with_knowledge
from privgen.insider.inversion import Effort
from privgen.limits import TEXT_BYTES, told
from privgen.phases import phase
from privgen.pipelines.decision import Harmonise
from privgen.reporting import suspects
from privgen.reporting.disclosure import withheld
from privgen.reporting.writing import write_report
from privgen.sampling import LoadedGenerator, load_generator, sample


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One finished audit.

    Attributes:
      report: what `audits` found.
      document: the whole of report.json; aggregates only.
      suspects: the private page of single tiles, HTML, where it was asked for. It shows patients'
        tissue: only `write` should put it anywhere.
    """

    report: audits.AuditReport
    document: Mapping[str, Any]
    suspects: str | None = field(default=None, repr=False)

    @property
    def verdict(self) -> audits.Verdict:
        return self.report.verdict

    def write(self, folder: Path) -> None:
        """Write report.json and report.html into `folder`, which must exist; suspects beside them.

        The page of suspects is readable for its owner alone (mode 0600), where the file system
        keeps modes at all.
        """
        write_report(self.document, folder, suspects_page=self.suspects)
        page = folder / suspects.NAME
        if self.suspects is not None and page.stat().st_mode & 0o077:
            console.warn(f"this file system keeps no modes: others may read {page}.")


def audit(
    *,
    generator: Path | str | None = None,
    synthetic: SyntheticSource | None = None,
    train: RealSource | None = None,
    holdout: RealSource | None = None,
    siblings: RealSource | None = None,
    reference: RealSource | None = None,
    data: Path | str | None = None,
    count: int = DEFAULT_COUNT,
    truncation: float = 1.0,
    encoder: str = DEFAULT_ENCODER,
    fid: Path | bool = False,
    lpips: Path | bool = False,
    align: bool | None = None,
    approximate: bool = False,
    scheduler: str | None = None,
    harmonise: Harmonise = "auto",
    insider: bool | Effort = False,
    cache: Path | None = None,
    policy: audits.Policy | Path | None = None,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
    icc: Icc = "ignore",
    seed: int = 0,
    out: Path | None = None,
    reveal_suspects: bool = False,
) -> Audit:
    """Audit synthetic tiles against the real tiles they were made from and tiles of other patients.

    Give either `generator`, one of privgen's own files, or `synthetic`, anybody's images. A private
    checkpoint's ledger finds the real tiles by itself; otherwise `train` and `holdout` are needed.

    Args:
      generator: a `.pt` checkpoint or `.safetensors` generator file.
      synthetic: a folder, a tile set, an array uint8 (n, h, w, 3), or a function of n that makes
        one.
      train: tiles the generator was trained on.
      holdout: tiles of patients it never met.
      siblings: tiles of the training slides that were held back; without them tile membership
        cannot be measured.
      reference: tiles of further patients.
      data: where the training data are now, when they have moved since training.
      count: tiles drawn from a generator or asked of a function.
      truncation: of the drawn tiles, as `LoadedGenerator.generate`: audit what is released.
      encoder: as `encoders.loading.load_encoder`.
      fid, lpips: add FID or LPIPS; a weights file, or True to use (and once fetch) the published
        ones. Weights that cannot be had become a warning, and the audit goes on.
      align: verify candidates geometrically by key points, which proves single copies that come
        back turned, cropped or re-stained. None does so where it takes minutes
        (`searching.MOST_PAIRS`), and else warns that it was left out.
      approximate: let key points vote through an inverted file, for very many tiles; the report
        then states how much that list misses. Implies `align`.
      scheduler: address of a Dask scheduler whose workers align. Implies `align`.
      harmonise: where roles became pixels in different ways (JPEG, scaling), "auto" brings all to
        one before they are embedded; "off" leaves them, and what that confounds is INCONCLUSIVE.
      insider: also attack with `generator`'s weights, and with the discriminator where it is a
        checkpoint; an `Effort` says how hard, True decides by the number of tiles. Each attack adds
        its arms to the family, so the verdict then speaks of an attacker who holds these too.
      cache: folder, private to its owner, that keeps embeddings for the next audit.
      policy: what gates and how small a leak must be visible; a TOML file or a `Policy`.
      group_by: manifest column that names the patient, for folders.
      icc: "apply" or "ignore" colour profiles of files; a ledger says it for its own tiles.
      on_bad_tile: "error", or "skip" to leave unusable files out and count them.
      seed: of every random draw.
      out: empty or new folder for report.json and report.html; nothing is written when None.
      reveal_suspects: write a private page of the most suspicious synthetic tiles beside the train
        tiles they may show, suspects.html, mode 0600; implies `align`, needs `out`. The report is
        the one `align` gives and does not mention it.

    Raises:
      ConfigError: suspects are to be revealed, but nothing is to be written; an approximate search
        by a scheduler; the scheduler cannot be used; or insider attacks without a generator.
      InputError: a source cannot be read, too few were given, a function makes another number of
        tiles, a class of the synthetic tiles is constant, the generator's weights or its ledger
        cannot be used, or roles share patients, digests or pixels.
      audits.AuditInputError: too little to audit.
    """
    if reveal_suspects and out is None:
        raise ConfigError(
            "suspects are revealed in a private file only: got no output folder. Give --out FOLDER."
        )
    if reveal_suspects and align is False:
        raise ConfigError(
            "suspects are found by alignment: got --no-align beside --reveal-suspects. Give one."
        )
    if insider and generator is None:
        raise ConfigError(
            "insider attacks need the generator's weights: got --insider with tiles alone. Give "
            "--generator CHECKPOINT."
        )
    require_compatible(align=align, approximate=approximate, scheduler=scheduler)
    kept = None if cache is None else EmbeddingCache(Path(cache))
    if out is not None:
        empty_folder(Path(out))
    chosen = read_policy(policy) if isinstance(policy, Path) else policy
    given = {"train": train, "siblings": siblings, "holdout": holdout, "reference": reference}
    loaded = None if generator is None else load_generator(Path(generator))
    discriminator = None
    if insider and generator is not None and loaded is not None:
        if loaded.ledger is not None:
            discriminator = load_discriminator(Path(generator))
        else:
            console.note("a generator file holds no discriminator: its attack is left out.")
    if loaded is None:
        if synthetic is None or train is None or holdout is None:
            named = {"synthetic": synthetic, **given}
            got = ", ".join(f"--{role}" for role, source in named.items() if source is not None)
            raise InputError(
                "an audit needs --generator CHECKPOINT, or --train, --holdout and --synthetic: "
                f"got {got or 'none of them'}."
            )
        made = synthetic_tiles(synthetic, count, on_bad_tile, icc)
    else:
        with phase(f"sampling {count} tiles"):
            tiles, labels = sample(loaded, count, seed=seed, truncation=truncation)
        made = TileSet.from_arrays(tiles, labels, layout="sampled from the generator")
    if train is None and holdout is None and loaded is not None:
        roles, warnings = from_ledger(loaded, data)
    else:
        roles, warnings = given_tiles(
            given, loaded, group_by=group_by, on_bad_tile=on_bad_tile, icc=icc
        )
    require_disjoint(**roles)
    warnings += [*by_role({**roles, "synthetic": made}), *incomparable(**roles)]
    warnings += constants_of(made)
    if align is None:
        demanded = approximate or scheduler is not None or reveal_suspects
        align = demanded or pairs(roles, made) <= MOST_PAIRS
        warnings += [] if align else [LEFT_OUT]
    if align and roles["train"].group_unit == "tile":
        warnings.append(SAME_PATIENTS)
    with opened_search(align=align, approximate=approximate, scheduler=scheduler) as search:
        asked = _Asked(
            encoder=encoder,
            fid=fid,
            lpips=lpips,
            search=search,
            approximate=approximate,
            harmonise=harmonise,
            insider=insider,
            discriminator=discriminator,
            cache=kept,
            policy=chosen,
            seed=seed,
            truncation=truncation,
            reveal_suspects=reveal_suspects,
            weaker=weaker_than_default(
                roles,
                made,
                encoder=encoder,
                aligned=align,
                approximate=approximate,
                count=count if loaded is not None or callable(synthetic) else None,
                truncation=1.0 if loaded is None else truncation,
                policy=chosen,
            ),
        )
        result = _judge(roles, made, loaded, asked, warnings)
    if out is not None:
        result.write(Path(out))
    return result


def read_policy(file: Path) -> audits.Policy:
    """A release policy from a TOML file.

    Raises:
      ConfigError: the file cannot be read, or is no policy.
    """
    try:
        return audits.Policy.from_mapping(parse_toml(read_text(file, TEXT_BYTES)))
    except OSError as error:
        raise ConfigError(f"cannot read policy {file}: {error.strerror}.") from error
    except (DocumentError, ArithmeticError, TypeError, audits.AuditInputError) as error:
        raise ConfigError(f"{file.name} is not a policy: {told(error)}") from error


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What to do with the tiles; see `audit`."""

    encoder: str
    fid: Path | bool
    lpips: Path | bool
    search: Search | None
    approximate: bool
    harmonise: Harmonise
    insider: bool | Effort
    discriminator: nn.Module | None
    cache: EmbeddingCache | None
    policy: audits.Policy | None
    seed: int
    truncation: float
    reveal_suspects: bool
    weaker: list[Weaker]


def _judge(
    roles: Mapping[str, TileSet],
    synthetic: TileSet,
    generator: LoadedGenerator | None,
    asked: _Asked,
    warnings: list[str],
) -> Audit:
    roles, synthetic = in_order(roles, synthetic)
    evidence = collect(
        train=roles["train"],
        holdout=roles["holdout"],
        siblings=roles.get("siblings"),
        reference=roles.get("reference"),
        synthetic=synthetic,
        encoder=load_encoder(asked.encoder),
        seed=asked.seed,
        search=asked.search,
        cache=asked.cache,
        harmonise=asked.harmonise,
    )
    warnings = [*evidence.pipeline.warnings, *warnings]
    looks = {role: evidence.harmonised(tiles) for role, tiles in roles.items()}
    features = dict(evidence.features)
    if asked.fid:
        try:
            spec = "inception_fid" if asked.fid is True else f"inception_fid:{asked.fid}"
            seen = evidence.harmonised(synthetic)
            features |= plain_features(load_encoder(spec), looks, seen, side=evidence.side)
        except WeightsError as error:
            console.warn(f"no FID: {error}")
            warnings.append("FID was asked for, but its Inception weights could not be had.")
    outside: list[audits.OutsideScores] = []
    tried = sum(len(roles[role]) for role in ROLES if role in roles)
    effort = asked.insider if isinstance(asked.insider, Effort) else Effort.for_tiles(tried)
    if asked.insider and generator is not None:
        outside = insider_scores(
            generator,
            asked.discriminator,
            looks,
            ids={role: tiles.ids for role, tiles in evidence.data.roles().items()},
            seed=asked.seed,
            effort=effort,
        )
    with phase("judging"):
        judged = judge(
            evidence.data, policy=asked.policy, rng=asked.seed, features=features, outside=outside
        )
    report = judged.report
    report = replace(report, results=with_knowledge(report.results, effort))
    if asked.lpips:
        try:
            extra = perceptual_diversity(
                synthetic, roles["holdout"], weights=asked.lpips, seed=asked.seed
            )
            report = replace(report, results=(*report.results, *extra))
        except WeightsError as error:
            console.warn(f"no LPIPS: {error}")
            warnings.append("LPIPS was asked for, but its backbone's weights could not be had.")
    report = replace(report, warnings=(*report.warnings, *warnings))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "created": created,
        "weaker_than_default": [setting.to_dict() for setting in asked.weaker],
        "data": _described(roles, synthetic, evidence.side) | {"pipeline": evidence.pipeline.facts},
        "generator": None if generator is None else _generator_facts(generator, asked.truncation),
        "audit": report.to_dict(),
        "augment_bench": None,
        "reproduce": {
            "command": _command(generator, asked, len(synthetic)),
            "seed": asked.seed,
        },
        "samples_png": None
        if generator is None
        else sample_grid(synthetic, near_train(evidence.data, judged.copies), report.verdict),
    }
    if not asked.reveal_suspects:
        return Audit(report=report, document=document)
    proof = next(result for result in report.results if result.name == ALIGNED)
    page = suspects.render(
        choose(evidence, proof, judged.copies),
        synthetic=synthetic,
        train=roles["train"],
        side=evidence.side,
        created=created,
    )
    return Audit(report=report, document=document, suspects=page)


def _described(roles: Mapping[str, TileSet], synthetic: TileSet, side: int) -> dict[str, Any]:
    every = {**roles, "synthetic": synthetic}
    train = roles["train"]
    classes = sorted({label for tiles in every.values() for label in tiles.classes})
    counts = {
        role: {label: int((tiles.labels == label).sum()) for label in classes}
        for role, tiles in every.items()
    }
    given = {
        role: count if role == "synthetic" else withheld(count) for role, count in counts.items()
    }
    return {
        "layout": train.layout,
        "group_unit": train.group_unit,
        "roles": {
            role: {
                "tiles": len(tiles),
                "patients": 0 if role == "synthetic" else len(np.unique(tiles.groups)),
            }
            for role, tiles in every.items()
        },
        "classes": {label: {role: given[role][label] for role in every} for label in classes},
        "audit_side_px": side,
        "skipped": skipped_files(roles, synthetic),
    }


def _generator_facts(generator: LoadedGenerator, truncation: float) -> dict[str, Any]:
    return {
        "digest": generator.digest,
        "truncation": truncation,
        "family": generator.family,
        "resolution": generator.resolution,
        "kimg": generator.kimg,
        "classes": list(generator.classes),
    }


def _command(generator: LoadedGenerator | None, asked: _Asked, count: int) -> str:
    """The command line without its paths: a report names no place."""
    # A specification may end in the path of a file.
    kind, _, rest = asked.encoder.partition(":")
    named = f"{kind}:FILE" if rest else kind
    options = f"--encoder {named} --seed {asked.seed} "
    how = "--approximate" if asked.approximate else "--align"
    options += "--no-align" if asked.search is None else how
    extras = {
        f"--truncation {asked.truncation:g}": asked.truncation != 1,
        "--harmonise off": asked.harmonise == "off",
        "--insider": asked.insider,
        "--fid": asked.fid,
        "--lpips": asked.lpips,
        "--policy POLICY": asked.policy is not None,
    }
    options += "".join(f" {option}" for option, given in extras.items() if given)
    if generator is not None:
        return f"privgen audit --generator CHECKPOINT --count {count} {options}"
    return f"privgen audit --train TRAIN --holdout HOLDOUT --synthetic SYNTHETIC {options}"
