"""A plan that was kept is held against one of now, and each difference is named."""

from datetime import UTC, datetime

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.run.kept_plan import (
    KeptPlan,
    PlannedLoad,
    differences,
    read_plan,
    require_as_planned,
    write_plan,
)

AT = datetime(2026, 5, 3, 12, tzinfo=UTC)


def load(model: str = "Book", content: str = "aa", **counts: int) -> PlannedLoad:
    return PlannedLoad(model=model, content=content, counts={"inserted": 4, "rejected": 1, **counts})


def plan(*loads: PlannedLoad, system: str = "library", limit: int | None = None, **decisions: str) -> KeptPlan:
    return KeptPlan(system=system, made_at=AT, limit=limit, decisions={"ids": "kept", **decisions}, loads=list(loads))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (plan(load()), []),
        (plan(load(inserted=3, rejected=2)), ["Book: 4 inserted planned, 3 now", "Book: 1 rejected planned, 2 now"]),
        (plan(load(content="bb")), ["Book: as many rows as planned, with other values"]),
        (plan(load(), load("Site")), ["Site was not planned"]),
        (plan(), ["Book was planned, and is no target now"]),
        (plan(load(), ids="new"), ["decision ids: planned was kept, now it is new"]),
        (plan(load(), times="utc"), ["decision times: planned was nothing, now it is utc"]),
        (plan(load(), limit=1000), ["planned were all rows of each table, now it is the first 1,000 rows"]),
        (plan(load(), system="zoo"), ["it is a plan of library, not of zoo"]),
    ],
)
def test_each_difference_is_named(tmp_path, now, told):
    kept = tmp_path / "plan.json"
    write_plan(kept, plan(load()))
    assert differences(read_plan(kept), now) == told
    if told:
        with pytest.raises(LoadError, match="would not do what was planned at 2026-05-03 12:00 UTC") as refused:
            require_as_planned(kept, read_plan(kept), now)
        assert all(each in str(refused.value) for each in told)
    else:
        require_as_planned(kept, read_plan(kept), now)


@pytest.mark.parametrize("content", ["{}", "loads: 3", '{"system": ["a"]}', "nothing", "{"])
def test_what_is_no_plan_is_refused_with_its_place(tmp_path, content):
    kept = tmp_path / "plan.json"
    kept.write_text(content)
    with pytest.raises(ConfigurationError, match=r"plan\.json"):
        read_plan(kept)
