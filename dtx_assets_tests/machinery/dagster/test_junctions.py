"""A junction in the graph: it comes after both parents, its checks tell of one-sided pairs, and a pair is explained."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import dagster as dg
import polars as pl
import pytest

from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from dtx_assets.machinery.checks.junctions import junction_checks
from dtx_assets.machinery.checks.spec import CheckContext
from dtx_assets.machinery.dagster.run import RunOutcome
from dtx_assets.machinery.mapping.lineage import column_lineage
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.explain import explain_legacy_row, explain_target_row, target_row_lines
from dtx_assets_tests.machinery.clubs import FILES, TABLES, Clubs, as_csv, crosswalk, hex_id, oid, pair
from dtx_assets_tests.machinery.dagster.shops import FolderPlace

CHECKS = ("one_sided_pairs", "junction_members")


@pytest.fixture
def place(tmp_path, database_url, monkeypatch) -> FolderPlace:
    references = [crosswalk("Person"), crosswalk("Club")]
    return FolderPlace(tmp_path, database_url, monkeypatch, "clubs", FILES, TABLES, references)


def write(
    place: FolderPlace, people: dict[int, list], club: dict[int, list], names: dict[int, str] | None = None
) -> None:
    for table, array, documents in (("people", "clubs", people), ("club", "members", club)):
        rows = [
            {"_id": oid(number), "name": (names or {}).get(number, "a"), array: named}
            for number, named in documents.items()
        ]
        (place.legacy / f"{table}.csv").write_text(as_csv(("_id", "name", array), rows))


def outcomes(done: RunOutcome) -> dict[str, tuple[bool, int]]:
    return {
        check.name: (check.passed, check.count)
        for check in done.checks
        if check.asset == "prepared/Membership" and check.name in CHECKS
    }


def test_a_junction_is_run_checked_and_explained(place):
    write(place, {1: [oid(11), oid(12), oid(19)], 2: [oid(11), oid(11), None]}, {11: [oid(1), oid(2)], 12: []})
    done = place.run()
    assert done.exit_code == EXIT_OK, done.failures
    assert done.loads["Membership"]["inserted"] == 3
    assert outcomes(done) == {"one_sided_pairs": (False, 1), "junction_members": (True, 0)}
    assert place.run("clubs_verify").exit_code == EXIT_OK
    shown = json.dumps(pair(1, 11), separators=(",", ":"))
    with RunEnvironment(place.system, str(uuid4()), datetime.now(UTC)) as here:
        facts = explain_target_row(here, place.system.target("Membership"), shown)
        went = explain_legacy_row(here, place.system.legacy_tables["people"], hex_id(1))
    assert [(each["source_table"], each["source_key"], each["part"]) for each in facts["sources"]] == [
        ("people", hex_id(1), hex_id(11)),
        ("club", hex_id(11), hex_id(1)),
    ]
    steps = {name: [way["step"] for way in column["ways"]] for name, column in facts["columns"].items()}
    person, club = pair(1, 11)
    assert steps["club_id"] == [f"{hex_id(11)} → {club}", f'{{"$oid":"{hex_id(11)}"}} → {club}']
    assert steps["person_id"] == [f'{{"$oid":"{hex_id(1)}"}} → {person}', f"{hex_id(1)} → {person}"]
    assert "the row came from people" in "\n".join(target_row_lines(facts))
    assert sorted((each["target_table"], each["part"]) for each in went["went_to"]) == [
        ("Membership", hex_id(11)),
        ("Membership", hex_id(12)),
        ("Person", ""),
    ]
    assert [(each["reasons"], each["partial"]) for each in went["rejected"]] == [(["orphan_reference"], True)]


def test_documents_that_the_target_refused_are_replayed_with_their_pairs(place):
    write(place, {1: [oid(11)], 2: [oid(12)]}, {11: [oid(1), oid(2)], 12: [oid(1)]}, {1: "refused"})
    assert place.run().exit_code == EXIT_CHECK_FAILED
    rejected = "SELECT source_table, source_key, partial FROM migration.rejected WHERE target_table = 'Membership'"
    assert sorted(place.sql(rejected)) == [
        ("club", hex_id(11), True),
        ("club", hex_id(12), False),
        ("people", hex_id(1), False),
    ]
    place.sql('ALTER TABLE "Person" DROP CONSTRAINT "Person_name_check"')
    replay = place.run("clubs_replay")
    assert replay.loads["Membership"]["inserted"] == 2
    assert place.sql('SELECT count(*) FROM "Membership"') == [(4,)]
    assert [row for row in place.sql(rejected) if not row[2]] == []


def test_a_junction_comes_after_both_of_its_parents(place):
    graph = place.definitions.get_repository_def().asset_graph
    key = dg.AssetKey

    def before(*path: str) -> set[str]:
        found, todo = set(), [key(["clubs", *path])]
        while todo:
            parents = graph.get(todo.pop()).parent_keys
            todo += parents - found
            found |= parents
        return {"/".join(parent.path[1:]) for parent in found}

    prepared = {"legacy/people", "legacy/club", "mapping/Person", "mapping/Club", "prepared/Person", "prepared/Club"}
    assert before("prepared", "Membership") >= prepared
    assert before("target", "Membership") >= {"target/Person", "target/Club"}
    assert column_lineage(place.system.mappings.for_target("Membership"), "clubs")["club_id"] == [
        (("clubs", "legacy", "people"), "clubs"),
        (("clubs", "mapping", "Club"), "target_id"),
        (("clubs", "legacy", "club"), "_id"),
    ]


# --- checks that fail -------------------------------------------------------------------------------------------------


def checked(clubs: Clubs, name: str):
    flow = clubs.system.flow_of("Membership")
    assert flow
    context = CheckContext(clubs.lake, clubs.system, clubs.system.decisions, {}, clubs.settings)
    return junction_checks(flow, "Membership").evaluate(context)[name]


@pytest.fixture
def clubs(tmp_path, database_url) -> Clubs:
    made = Clubs(tmp_path, database_url)
    made.land({1: [11, 12], 2: [11, 11, None], 3: [11]}, {11: [1, 2, 9], 12: [], 13: [3, 2]})
    made.prepare()
    return made


def test_pairs_that_one_side_only_names_are_counted_with_samples(clubs):
    outcome = checked(clubs, "one_sided_pairs")
    assert (outcome.passed, outcome.count) == (False, 4)
    facts = outcome.metadata
    assert (facts["named by both"], facts["only by people"], facts["only by club"]) == (2, 2, 2)
    assert sorted(facts["samples"]["people"]) == [
        f"{hex_id(1)} names {hex_id(12)}",
        f"{hex_id(3)} names {hex_id(11)}",
    ]


def test_no_side_is_missed_where_one_alone_counts(clubs):
    clubs.system = clubs.system.under(replace(clubs.system.decisions, chosen={"asymmetric_arrays": "owner_side"}))
    clubs.prepare()
    outcome = checked(clubs, "one_sided_pairs")
    assert (outcome.passed, outcome.metadata["only by people"]) == (True, 4)
    assert checked(clubs, "junction_members").passed


def test_a_member_that_is_lost_is_found(clubs):
    outcome = checked(clubs, "junction_members")
    assert outcome.passed
    assert outcome.metadata["people"] == {"members": 6, "nulls": 1, "bad": 0, "pairs": 4, "duplicates": 1}
    assert outcome.metadata["club"] == {"members": 5, "nulls": 0, "bad": 1, "pairs": 4, "duplicates": 0}
    key = ("clubs", "prepared", "Membership")
    before = clubs.lake.require(key)
    frames = {
        table: [clubs.lake.scan_files(before, table, [entry.name]).collect() for entry in before.tables[table].files]
        for table in ("rows", "links")
    }
    with clubs.lake.write(key, run_id="faulty") as writer:
        for table, parts in frames.items():
            for entry, frame in zip(before.tables[table].files, parts, strict=True):
                cut = frame.with_columns(pl.col("parts", "rows").list.head(1)) if table == "links" else frame
                writer.add(cut, table=table, file=entry.name.removesuffix(".parquet"))
        writer.metadata.update(before.metadata)
    outcome = checked(clubs, "junction_members")
    assert not outcome.passed
    assert any(said.startswith("people: ") for said in outcome.metadata["does not add up"])
