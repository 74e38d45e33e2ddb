"""`privgen augment-bench`: do synthetic tiles help a classifier?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.benefit.requests import BenchRequest
from privgen.cli.base import Json, app, reported, require_paths
from privgen.cli.options import Grouped, from_requests
from privgen.requests import made


@app.command("augment-bench", cls=Grouped)
@reported
@from_requests(BenchRequest)
def augment_bench(
    given: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long; write nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Empty or new folder for report.html, report.json and cells.csv. A run that was "
            "stopped resumes when its command is repeated."
        ),
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(
            help="Folder of generators and single results, yours alone.",
            show_default="OUT-private",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Measure whether synthetic tiles help MobileNet, ResNet, DenseNet and EfficientNet."""
    require_paths(given.get("data"), given.get("synthetic"), *given.get("generators", ()))
    request = made(BenchRequest, given)
    from privgen.benefit.bench import plan_request
    from privgen.reporting.terminal import print_bench, print_bench_plan

    planned = plan_request(request)
    if dry_run:
        estimate = planned.estimate()
        print_bench_plan(estimate)
        if json:
            console.emit_json(estimate)
        return 0
    bench = planned.run(out, private)
    print_bench(bench.report.to_dict())
    if out is not None:
        console.note(f"report: {out / 'report.html'}; every training: {out / 'cells.csv'}")
    if json:
        console.emit_json(bench.document)
    return 0
