"""What checks found before holds while nothing that they read has changed, and no longer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.checks.own import Checks, Find, Look, groups_of
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, found, joined_checks
from dtx_assets.machinery.run import checked_before
from dtx_assets_tests.library.definitions import SYSTEM

BOOKS = [{"book_id": "1", "branch_id": "7", "title": "Dune"}, {"book_id": "2", "branch_id": "8", "title": "Emma"}]
PARENT = Obstacle("rejected", "orphan", "legacy/book", "2 rows", "Ada", "add it", 2, frozenset(["legacy/book:one"]))


@dataclass
class Place:
    """A lake with two legacy tables, the world of a run, and how often each check was asked."""

    lake: Lake
    environment: Any
    world: dict[str, str]
    asked: list[str]

    def land(self, table: str, rows: Sequence[dict[str, str]] = BOOKS) -> None:
        with self.lake.write(("library", "legacy", table), run_id="run") as writer:
            frame = pl.DataFrame(list(rows), schema=dict.fromkeys(rows[0], pl.String))
            writer.add(frame.with_row_index("_row", 1).with_columns(pl.col("_row").cast(pl.Int64)))
            writer.metadata.update(dialect="database", columns=list(rows[0]), source=table)

    def run(self, run_id: str, group: CheckGroup) -> dict[str, CheckOutcome]:
        self.asked.clear()
        self.environment.run_id = run_id
        context = CheckContext(
            self.lake, SYSTEM, self.environment.decisions, {}, self.environment.settings, lambda: "postgresql://target"
        )
        return checked_before.outcomes(group, context, self.environment)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    settings = SimpleNamespace(
        mode="rehearsal", legacy_timezone="UTC", batch_rows=7, cutover_at=None, legacy_url="mysql://legacy"
    )
    lake = Lake(str(tmp_path / "lake"))
    environment = SimpleNamespace(
        system=SYSTEM, lake=lake, mode="rehearsal", decisions=SYSTEM.decisions, settings=settings, run_id=""
    )
    made = Place(lake, environment, {"code": "1", "mappings": "1", "target": "here"}, [])
    monkeypatch.setattr(checked_before, "world_of", lambda _environment: dict(made.world))
    monkeypatch.setattr(checked_before, "MANY_ROWS", 2)
    made.land("book")
    made.land("reader", [{"reader_id": "7", "name": "Ada"}])
    return made


@pytest.fixture
def group(place: Place) -> CheckGroup:
    """Two parts: one reads books, the other readers."""
    alone, beside = Checks(), Checks()

    @alone.on("legacy/book", "ERROR")
    def one(look: Look) -> Find:
        """No book is called Emma."""
        place.asked.append("one")
        return Find(pl.col("title") == "Emma", show="title", values={"titles": pl.col("title")}, facts={"of": (1, 2)})

    @beside.on("legacy/book", needs="legacy/reader")
    def two(look: Look) -> CheckOutcome:
        """There are no readers."""
        place.asked.append("two")
        readers = look.legacy("reader").collect().height
        return CheckOutcome(False, readers, {"readers": readers}, severity="ERROR", obstacles=(PARENT,))

    return joined_checks(*groups_of(alone.of(SYSTEM)), *groups_of(beside.of(SYSTEM)))


def known(outcome: CheckOutcome, run_id: str) -> CheckOutcome:
    metadata = {name: list(fact) if isinstance(fact, tuple) else fact for name, fact in outcome.metadata.items()}
    return replace(outcome, metadata=metadata, found_in=run_id)


def test_what_reads_the_same_is_not_asked_again_and_names_the_run_that_found_it(place, group):
    first = place.run("a", group)
    assert place.asked == ["one", "two"]
    assert first["two"].obstacles == (PARENT,)
    assert not first["one"].found_in
    for run_id in ("b", "c"):
        assert place.run(run_id, group) == {name: known(outcome, "a") for name, outcome in first.items()}
        assert place.asked == []


def test_what_reads_a_dataset_that_is_another_one_is_asked_and_nothing_else(place, group):
    first = place.run("a", group)
    place.land("reader", [{"reader_id": "7", "name": "Ada"}, {"reader_id": "8", "name": "Bob"}])
    second = place.run("b", group)
    assert place.asked == ["two"]
    assert (second["one"].found_in, second["two"].found_in, second["two"].count) == ("a", "", 2)
    assert place.run("c", group) == {"one": known(first["one"], "a"), "two": known(second["two"], "b")}


def test_rows_that_are_landed_anew_are_another_dataset_even_if_they_are_equal(place, group):
    place.run("a", group)
    place.land("book")
    place.run("b", group)
    assert place.asked == ["one"]


def test_a_dataset_that_was_not_there_is_another_one_when_it_is(place):
    checks = Checks()

    @checks.on("legacy/book")
    def members(look: Look) -> CheckOutcome:
        """There are no members."""
        place.asked.append("members")
        return found(int(look.lake.manifest(("library", "legacy", "member")) is not None))

    [group] = groups_of(checks.of(SYSTEM))
    place.run("a", group)
    assert place.run("b", group)["members"].found_in == "a"
    place.land("member")
    assert place.run("c", group)["members"].count == 1


@pytest.mark.parametrize("part", ["code", "mappings"])
def test_another_world_asks_everything(place, group, part):
    place.run("a", group)
    place.world[part] = "2"
    place.run("b", group)
    assert place.asked == ["one", "two"]


def test_another_target_makes_no_difference_to_who_does_not_ask_it(place, group):
    place.run("a", group)
    place.world["target"] = "there"
    place.run("b", group)
    assert place.asked == []


def test_what_people_said_asks_everything(place, group):
    place.run("a", group)
    said = SYSTEM.decisions
    entries = tuple(entry.model_copy(update={"status": "confirmed"}) for entry in said.entries)
    place.environment.decisions = replace(said, entries=entries, actions=said.actions[1:])
    place.run("b", group)
    assert place.asked == ["one", "two"]


def test_a_cutover_asks_everything(place, group):
    place.run("a", group)
    place.environment.mode = "cutover"
    assert not place.run("b", group)["one"].found_in
    assert place.asked == ["one", "two"]


def test_few_rows_are_asked_anew_and_nothing_is_kept(place, group, monkeypatch):
    monkeypatch.setattr(checked_before, "MANY_ROWS", 4)
    place.run("a", group)
    place.run("b", group)
    assert place.asked == ["one", "two"]
    assert place.lake.manifest(("library", "checked", "legacy.book")) is None


ASKS = {
    "target": lambda look: look.target_url(),
    "source": lambda look: look.settings.legacy_url,
    "time": lambda look: look.now,
}


@pytest.mark.parametrize("asks", ASKS)
def test_who_asks_for_what_no_dataset_holds_is_always_asked(place, asks):
    checks = Checks()

    @checks.on("legacy/book")
    def look_out(look: Look) -> CheckOutcome:
        """All is well outside."""
        place.asked.append("look_out")
        ASKS[asks](look)
        return found(0)

    [group] = groups_of(checks.of(SYSTEM))
    for run_id in ("a", "b"):
        place.run(run_id, group)
        assert place.asked == ["look_out"]


def test_a_time_that_is_set_is_the_same_for_all(place):
    checks = Checks()

    @checks.on("legacy/book")
    def in_time(look: Look) -> CheckOutcome:
        """It is not yet 2030."""
        place.asked.append("in_time")
        return found(int(look.now.year >= 2030))

    [group] = groups_of(checks.of(SYSTEM))
    place.environment.settings.cutover_at = datetime(2026, 12, 1, tzinfo=UTC)
    place.world["cutover_at"] = "2026-12-01"
    place.run("a", group)
    place.run("b", group)
    assert place.asked == []
    place.environment.settings.cutover_at = datetime(2031, 12, 1, tzinfo=UTC)
    place.world["cutover_at"] = "2031-12-01"
    assert place.run("c", group)["in_time"].count == 1


def test_facts_that_are_no_json_are_asked_anew(place):
    checks = Checks()

    @checks.on("legacy/book")
    def odd(look: Look) -> CheckOutcome:
        """Nothing is odd."""
        place.asked.append("odd")
        return found(0, odd=object())

    [group] = groups_of(checks.of(SYSTEM))
    place.run("a", group)
    place.run("b", group)
    assert place.asked == ["odd"]


def test_a_file_that_is_gone_asks_everything(place, group):
    place.run("a", group)
    manifest = place.lake.require(("library", "checked", "legacy.book"))
    [entry] = manifest.tables["rows"].files
    Path(place.lake.location(manifest, entry.name)).unlink()
    place.run("b", group)
    assert place.asked == ["one", "two"]
