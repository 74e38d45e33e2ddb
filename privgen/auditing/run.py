"""From tiles, or a generator and its ledger, to a verdict and its report.

`audit` takes anybody's images (folders, tile sets, arrays, a function or a program that makes them)
or one of privgen's own generators, whose ledger finds the real tiles. It opens them, decides what
was left open, and hands all of it to `judging`.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import audits
from privgen import console
from privgen.auditing.aligning import LEFT_OUT, MOST_PAIRS, SAME_PATIENTS, opened_search, pairs
from privgen.auditing.finished import Audit
from privgen.auditing.judging import OpenedAudit, Settled, judged
from privgen.auditing.requests import AuditOptions, AuditSubject, GeneratorAudit, audit_request
from privgen.auditing.tiles import constants_of, from_ledger, given_tiles, synthetic_tiles
from privgen.data.canaries import Canaries
from privgen.data.remarks import by_role
from privgen.data.splits import incomparable, require_disjoint
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache
from privgen.errors import ConfigError, DiskFullError, OutputError
from privgen.files import empty_folder
from privgen.insider.attacks import load_discriminator
from privgen.phases import phase
from privgen.policy import read_policy
from privgen.recipe.document import BroughtRecipe, brought
from privgen.release.artificial import artificial_sentence
from privgen.sampling import LoadedGenerator, load_generator, sample

UNNAMED = (
    "Its canaries were not looked for, because a generator file does not name them. Give the "
    "checkpoint."
)
PAINTED_OTHERWISE = (
    "This version paints the artificial patients otherwise than where the generator was trained: "
    "they were not looked for. Audit it with the version that trained it."
)
CANARIES_LEFT = (
    "The training's canaries are patients of its data, and can only be found in the data of its "
    "ledger: they were not looked for. Leave `train` out."
)


def audit(
    what: AuditSubject | None = None,
    how: AuditOptions | None = None,
    /,
    *,
    out: Path | str | None = None,
    **options: Any,
) -> Audit:
    """Audit synthetic tiles against the real tiles they were made from and tiles of other patients.

    Give the options by name, `audit(train="a/", holdout="b/", synthetic="c/", seed=1)`, or two
    requests that were made before, `audit(GeneratorAudit(generator="run/"), AuditOptions(seed=1))`.

    Args:
      what: a generator of privgen's and its ledger, or anybody's tiles by role.
      how: encoder, alignment, policy, seed and the like.
      out: empty or new folder for report.json and report.html; nothing is written when None.
      options: fields of `GeneratorAudit` (where `generator` is among them) or `TilesAudit`, and of
        `AuditOptions`.

    Raises:
      ConfigError: an option is unknown, out of range or of the other kind of audit; suspects are to
        be revealed, but nothing is to be written; or the scheduler cannot be used.
      InputError: a source cannot be read, too few were given, a function makes another number of
        tiles, a class of the synthetic tiles is constant, the generator's weights or its ledger
        cannot be used, or roles share patients, digests or pixels.
      audits.AuditInputError: too little to audit.
    """
    if what is None:
        what, how = audit_request(options)
    elif options:
        raise ConfigError(
            f"options stand in the requests: got `{min(options)}` beside them. Give one or the "
            "other."
        )
    how = how or AuditOptions()
    if how.reveal_suspects and out is None:
        raise ConfigError(
            "suspects are revealed in a private file only: got no output folder. Give `out`."
        )
    policy = read_policy(Path(how.policy)) if isinstance(how.policy, str | Path) else how.policy
    cache = None if how.cache is None else EmbeddingCache(Path(how.cache))
    recipe = _recipe(what, policy or audits.Policy())
    if out is not None:
        empty_folder(Path(out))
    with ExitStack() as stack:
        opened = _opened(what, how.seed, stack)
        warnings = list(opened.warnings)
        align = how.align
        if align is None:
            demanded = how.approximate or how.scheduler is not None or how.reveal_suspects
            align = demanded or pairs(opened.roles, opened.synthetic) <= MOST_PAIRS
            warnings += [] if align else [LEFT_OUT]
        if align and opened.roles["train"].group_unit == "tile":
            warnings.append(SAME_PATIENTS)
        search = stack.enter_context(opened_search(replace(how, align=align)))
        result = judged(
            Settled(
                what=what,
                how=replace(how, align=align),
                policy=policy,
                cache=cache,
                search=search,
                recipe=recipe,
                opened=replace(opened, warnings=tuple(warnings)),
            )
        )
    if out is not None:
        try:
            result.write(Path(out))
        except (OutputError, DiskFullError):
            console.warn(f"the report could not be written. {result.verdict.sentence}")
            raise
    return result


def _recipe(what: AuditSubject, policy: audits.Policy) -> BroughtRecipe | None:
    """The audit of the generator's recipe, where one was brought."""
    if not isinstance(what, GeneratorAudit) or what.recipe is None:
        return None
    return brought(
        Path(what.recipe),
        Path(what.generator),
        policy,
        count=what.count,
        truncation=what.truncation,
    )


def _canaries(
    generator: LoadedGenerator | None, *, given: bool
) -> tuple[Canaries | None, list[str]]:
    """The canaries to look for, and what must be said of them.

    Args:
      generator: that is audited.
      given: whether real tiles are given by role, and not found by its ledger.
    """
    if generator is None:
        return None, []
    said = [artificial_sentence(generator.artificial)] if generator.artificial else []
    if generator.ledger is None:
        return None, [*said, UNNAMED] if said else []
    canaries = generator.ledger.canaries
    if canaries is not None and canaries.kind == "real" and given:
        return None, [CANARIES_LEFT]
    if canaries is not None and canaries.kind == "artificial" and not canaries.as_painted:
        return None, [*said, PAINTED_OTHERWISE]
    return canaries, said


def _opened(what: AuditSubject, seed: int, stack: ExitStack) -> OpenedAudit:
    """Open every role, and make or open the synthetic tiles; refuse what no audit could judge."""
    generator = discriminator = None
    if isinstance(what, GeneratorAudit):
        generator = load_generator(Path(what.generator))
        if what.insider and generator.ledger is not None:
            discriminator = load_discriminator(Path(what.generator))
        elif what.insider:
            console.note("a generator file holds no discriminator: its attack is left out.")
        with phase(f"sampling {what.count} tiles"):
            tiles, labels = sample(generator, what.count, seed=seed, truncation=what.truncation)
        synthetic = TileSet.from_arrays(tiles, labels, layout="sampled from the generator")
    else:
        synthetic = stack.enter_context(synthetic_tiles(what, seed))
    if isinstance(what, GeneratorAudit) and what.train is None and generator is not None:
        roles, warnings = from_ledger(generator, what.data)
    else:
        roles, warnings = given_tiles(what, generator)
    canaries, said = _canaries(generator, given=what.train is not None)
    warnings += said
    require_disjoint(**roles)
    warnings += [*by_role({**roles, "synthetic": synthetic}), *incomparable(**roles)]
    warnings += constants_of(synthetic)
    return OpenedAudit(
        roles=roles,
        synthetic=synthetic,
        generator=generator,
        discriminator=discriminator,
        canaries=canaries,
        warnings=tuple(warnings),
    )
