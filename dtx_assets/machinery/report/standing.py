"""What a run stands on in the target, and what was undone of it since, for the page, `dtx runs` and `dtx rollback`.

A cutover stands on what it wrote, and on what it found of earlier runs: one that finds all rows there writes none.
"""

from collections.abc import Collection, Iterable, Sequence

from dtx_assets.machinery.report.figures import Loaded, RunFigures


def stands_on(run: RunFigures, loaded: Sequence[Loaded]) -> list[Loaded]:
    """What a run wrote and, of a cutover, what earlier ones wrote into the same models and was there when it began."""
    models = {each.model for each in loaded if each.run_id == run.run_id}
    return [
        each
        for each in loaded
        if each.rows and (each.run_id == run.run_id or (run.mode == "cutover" and each.model in models))
        if each.started_at <= run.started_at and (each.undone_at is None or each.undone_at > run.started_at)
    ]


def undone_since(run: RunFigures, loaded: Sequence[Loaded]) -> list[Loaded]:
    """What was undone of that."""
    return [each for each in stands_on(run, loaded) if each.undone]


def found_of_others(run: RunFigures, loaded: Sequence[Loaded]) -> dict[str, int]:
    """How many rows of that other runs wrote, by run, the latest first."""
    rows: dict[str, int] = {}
    for each in stands_on(run, loaded):
        if each.run_id != run.run_id and (left := each.rows - each.undone):
            rows[each.run_id] = rows.get(each.run_id, 0) + left
    return rows


def stands_still(run: RunFigures, loaded: Sequence[Loaded]) -> bool:
    """Whether any row is left of those that a run stands on; where it stands on none, whether it was undone itself."""
    beneath = stands_on(run, loaded)
    return run.status != "rolled back" and (not beneath or any(each.undone < each.rows for each in beneath))


def would_lose(
    run: RunFigures, loaded: Sequence[Loaded], run_ids: Collection[str], models: Collection[str] | None = None
) -> bool:
    """Whether an undo of other runs, of some models alone, would take rows away that a run stands on."""
    return run.run_id not in run_ids and any(
        each.undone < each.rows and each.run_id in run_ids and (models is None or each.model in models)
        for each in stands_on(run, loaded)
    )


def rows_by_model(undone: Iterable[Loaded]) -> dict[str, int]:
    """How many rows were undone of each model."""
    rows: dict[str, int] = {}
    for each in undone:
        rows[each.model] = rows.get(each.model, 0) + each.undone
    return dict(sorted(rows.items()))
