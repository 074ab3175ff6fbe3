"""Any members in any arrays on both sides of a junction, against a plain reading of what shall become of them."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.prepare import members
from dtx_assets.machinery.prepare.batches import SourceRows, named
from dtx_assets.machinery.prepare.books import Books
from dtx_assets.machinery.prepare.members import PairParts
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import TransformContext
from dtx_assets_tests.machinery.clubs import CROSSWALK, clubs_system, extended, hex_id, oid, uuid_of

SIDES = {"people": ("clubs", "Person", "Club"), "club": ("members", "Club", "Person")}
"""By collection: the array, whose ids are its own, and whose are in it."""
FATES: dict[int, tuple[int | None, str | None, bool]] = {
    1: (1, None, False),
    2: (2, None, False),
    3: (3, None, False),
    4: (None, "rejected", False),
    5: (None, "dropped", False),
    6: (1, "rejected", True),
    7: (2, "rejected", True),
}
"""By the number of a document, of either collection: what it leads to, its fate, whether it is merged into another."""


@dataclass
class Document:
    id: Any
    array: Any
    unreadable: bool = False


@dataclass
class Reading:
    """What a plain reading says: by row, `migrated`, `rejected` or the rule that drops it."""

    fates: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, list[str]] = field(default_factory=dict)
    partial: list[tuple[int, str]] = field(default_factory=list)
    coerced: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Source key, part, person, club."""


def digits_of(value: Any) -> tuple[str, bool] | None:
    """The hex digits of an id, and whether a text stood for it."""
    if isinstance(value, dict) and list(value) == ["$oid"]:
        return value["$oid"].lower(), False
    if isinstance(value, str) and len(found := value.strip()) == 24 and set(found.lower()) <= set("0123456789abcdef"):
        return found.lower(), True
    return None


def is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def reading_of(documents: Sequence[Document], table: str, owner_side: bool) -> Reading:
    """The order of the rules, line by line."""
    reading = Reading()
    states = states_of(documents)
    for row, document in enumerate(documents, 1):
        array = document.array
        listed = array if isinstance(array, list) else [] if is_nothing(array) or array == MISSING else [array]
        own = digits_of(document.id)
        mine = FATES.get(int(own[0], 16)) if own else None
        if states[row] == "identical":
            reading.fates[row] = "identical"
        elif document.unreadable:
            reading.fates[row], reading.reasons[row] = "rejected", ["unparseable"]
        elif all(map(is_nothing, listed)):
            reading.fates[row] = "empty"
        elif owner_side and table == "club":
            reading.fates[row] = "not_owner_side"
        elif own is None or states[row] == "duplicate_key" or not mine or mine[0] is None:
            reason = "unparseable" if own is None else states[row] or "orphan_reference"
            reading.fates[row], reading.reasons[row] = "rejected", [reason]
        else:
            of_members(reading, row, own[0], mine[0], listed, table, alone=not isinstance(array, list))
    return reading


def of_members(reading: Reading, row: int, key: str, own: int, listed: list[Any], table: str, *, alone: bool) -> None:
    bad, coerced, named = [], ["scalar_to_array"] if alone else [], []
    for member in listed:
        if is_nothing(member):
            coerced.append("null_member")
            continue
        found = digits_of(member)
        if found is None:
            bad.append("unparseable")
            continue
        other, _, merged = FATES.get(int(found[0], 16), (None, None, False))
        if other is None:
            bad.append("orphan_reference")
            continue
        coerced += ["id_from_text"] * found[1] + ["merged_reference"] * merged
        if other in named:
            coerced.append("duplicate_member")
        else:
            named.append(other)
    if not named:
        reading.fates[row], reading.reasons[row] = "rejected", sorted(set(bad))
        return
    reading.fates[row] = "migrated"
    reading.coerced.update(coerced)
    reading.partial += [(row, reason) for reason in bad]
    for other in named:
        pair = (uuid_of(own), uuid_of(other)) if table == "people" else (uuid_of(other), uuid_of(own))
        reading.pairs.add((key, hex_id(other), *pair))


def states_of(documents: Sequence[Document]) -> dict[int, str | None]:
    """Of documents of one id, the one that counts is the last ObjectId, else the last text; equal ones count once."""
    states: dict[int, str | None] = dict.fromkeys(range(1, len(documents) + 1))
    by_key: dict[str, dict[str, int]] = {}
    for row, document in enumerate(documents, 1):
        own = digits_of(document.id)
        if own is None or document.unreadable:
            continue
        content = json.dumps([document.id, document.array if document.array != MISSING else "missing"])
        same = by_key.setdefault(own[0], {})
        if content in same:
            states[row] = "identical"
        else:
            same[content] = row
    for same in by_key.values():
        last = max(same.values(), key=lambda row: (isinstance(documents[row - 1].id, dict), row))
        for row in same.values():
            if row != last:
                states[row] = "duplicate_key"
    return states


# --- what the machinery makes of the same -----------------------------------------------------------------------------

MISSING = {"missing": True}


def texts(documents: Sequence[Document], table: str) -> pl.LazyFrame:
    array = SIDES[table][0]
    rows = [
        {
            "_id": extended(document.id),
            "name": None,
            array: None if document.array == MISSING else json.dumps(document.array, separators=(",", ":")),
            "_row": row,
            "_unreadable": "is cut" if document.unreadable else None,
        }
        for row, document in enumerate(documents, 1)
    ]
    schema = {"_id": pl.String, "name": pl.String, array: pl.String, "_row": pl.Int64, "_unreadable": pl.String}
    return pl.LazyFrame(rows, schema=schema).with_columns(
        pl.lit(None, pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))).alias("_undecodable")
    )


def crosswalk() -> pl.LazyFrame:
    rows = [
        (hex_id(number), uuid_of(leads) if leads else None, fate, merged)
        for number, (leads, fate, merged) in FATES.items()
    ]
    return pl.LazyFrame(rows, schema=CROSSWALK, orient="row")


@dataclass
class Made:
    sides: dict[str, Reading]
    rows: list[tuple[str, str]]
    links: list[tuple[str, int, str, int]]
    """Source table, bucket of the pair, source key, pairs of the document in all."""


def made(system: System, people: Sequence[Document], club: Sequence[Document], option: str, batches: int) -> Made:
    """What the machinery makes of the documents in so many batches, and of their pairs in as many parts."""
    sides = {name: Reading() for name in SIDES}
    chosen = {"asymmetric_arrays": option}
    system = system.under(Decisions((), (), (), chosen))
    flow = system.flow_of("Membership")
    assert flow
    context = TransformContext(
        {"Person": crosswalk(), "Club": crosswalk()}, {}, chosen, "UTC", datetime(2026, 1, 1, tzinfo=UTC)
    )
    documents = {"people": people, "club": club}
    frames = {}
    for name, given_documents in documents.items():
        source = SourceRows.of(system.legacy_tables[name], texts(given_documents, name), len(given_documents))
        frames[name] = named(source.table, source.placed(source.frame.collect()))
    books = Books("values")
    with ExitStack() as held:
        parts = PairParts(Path("/nonexistent"), held)
        for batch in range(batches):
            some = {name: frame.filter(pl.col("_row") % batches == batch) for name, frame in frames.items()}
            outcome = flow.run(FlowInputs(system, some, context.crosswalks, context))
            books.add(outcome)
            for row in (row for fates in outcome.fates for row in fates.iter_rows(named=True)):
                sides[row["source_table"]].fates[row["source_row"]] = row["fate"]
            rejected = pl.concat([*outcome.rejected["Membership"]])
            for row in rejected.iter_rows(named=True):
                if row["partial"]:
                    [reason] = row["reasons"]
                    sides[row["source_table"]].partial.append((row["source_row"], reason))
                else:
                    sides[row["source_table"]].reasons[row["source_row"]] = row["reasons"]
            parts.add(outcome.prepared["Membership"].rows, rejected)
        rows, links, rejections = [], [], 0
        for _, (low, high), candidates, rejected in parts.parts(1 if batches > 1 else 1000):
            rejections += rejected.height
            assert rejected["bucket"].is_between(low, high).all()
            united = flow.unite["Membership"](candidates)
            pairs = {row["_row"]: (row["person_id"], row["club_id"]) for row in united.rows.to_dicts()}
            rows += pairs.values()
            for link in united.links.to_dicts():
                assert low <= link["bucket"] <= high
                links.append((link["source_table"], link["bucket"], link["source_key"], link["total"]))
                for part, row in zip(link["parts"], link["rows"], strict=True):
                    sides[link["source_table"]].pairs.add((link["source_key"], part, *pairs[row]))
    for (source, _, kind), count in books.coerced.items():
        sides[source].coerced[kind] += count
    assert rejections == sum(len(side.reasons) + len(side.partial) for side in sides.values())
    return Made(sides, rows, links)


# --- the comparison ---------------------------------------------------------------------------------------------------

NUMBERS = st.integers(1, 8)
IDS = NUMBERS.map(oid) | NUMBERS.map(hex_id) | NUMBERS.map(lambda number: f" {hex_id(number).upper()}\u2003")
NOTHING = st.sampled_from([None, "", "  ", "\u00a0"])
NO_IDS = st.sampled_from(
    ["x", hex_id(1)[1:], {"$numberInt": "5"}, {}, {"a": oid(1)}, [oid(1)], True, {"$date": {"$numberLong": "5"}}]
)
MEMBER = IDS | IDS | IDS | NOTHING | NO_IDS
ARRAY = st.lists(MEMBER, max_size=5) | st.lists(NUMBERS.map(oid), max_size=4) | MEMBER | st.just(MISSING)
DOCUMENT = st.builds(Document, NUMBERS.map(oid) | IDS | NO_IDS | st.none(), ARRAY)
UNREADABLE = st.builds(Document, NUMBERS.map(oid) | st.none(), st.just(MISSING), st.just(True))
DOCUMENTS = st.lists(DOCUMENT | DOCUMENT | DOCUMENT | UNREADABLE, max_size=6)


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> System:
    return clubs_system(tmp_path_factory.mktemp("clubs"))


@given(people=DOCUMENTS, club=DOCUMENTS, option=st.sampled_from(["union", "owner_side"]), batches=st.integers(1, 3))
@settings(max_examples=200)
def test_every_document_ends_as_the_rules_say_and_every_pair_is_there_once(system, people, club, option, batches):
    found = made(system, people, club, option, batches)
    expected = {
        "people": reading_of(people, "people", option == "owner_side"),
        "club": reading_of(club, "club", option == "owner_side"),
    }
    for name, side in found.sides.items():
        side.partial.sort()
        expected[name].partial.sort()
        assert side == expected[name]
    assert sorted(found.rows) == sorted({pair[2:] for side in expected.values() for pair in side.pairs})
    totals = Counter((name, pair[0]) for name, side in expected.items() for pair in side.pairs)
    # Two documents that are merged into one keep their own entries.
    assert all(totals[table, key] == total for table, _, key, total in found.links)
    assert len({link[:3] for link in found.links}) == len(found.links)


def test_what_is_spread_over_files_comes_back_by_its_buckets(system, tmp_path, monkeypatch):
    numbers = range(1, 4)
    people = [Document(oid(number), [oid(other) for other in numbers]) for number in numbers]
    club = [Document(oid(1), [oid(1), oid(9)]), Document(oid(2), [oid(4)])]
    held = made(system, people, club, "union", 3)
    monkeypatch.setattr(members, "HELD_ROWS", 0)
    monkeypatch.setattr(PairParts, "__init__", _at(tmp_path / "state", PairParts.__init__))
    assert made(system, people, club, "union", 3) == held
    assert not list((tmp_path / "state").iterdir())


def _at(home: Path, start: Any) -> Any:
    return lambda parts, _, held: start(parts, home, held)


MAPPED = 'target: Membership\ndecision: "A1 #2"\nsources:\n  people:\n    members: {{ {} }}\n'


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("field: club, own: person_id, other: club_id, of: Person, names: Club", "people has no column 'club'"),
        ("field: clubs, own: person_id, other: club_id, names: Club", "unknown crosswalk 'people'"),
        ("field: clubs, own: person_id, other: club_id, of: Person, names: Clubs", "unknown crosswalk 'Clubs'"),
        ("field: clubs, own: person, other: club_id, of: Person, names: Club", "Membership has no column 'person'"),
        ("field: clubs, own: club_id, other: club_id, of: Person, names: Club", "the key of Membership is"),
        ("field: _id, own: person_id, other: club_id, of: Person, names: Club", "is read as object_id"),
        ("key: name, field: clubs, own: person_id, other: club_id, of: Person, names: Club", "the key of people is"),
        ("field: clubs, own: person_id, names: Club", "'other' is missing"),
    ],
)
def test_what_a_mapping_says_of_members_is_checked(tmp_path, said, wrong):
    with pytest.raises(ConfigurationError) as told:
        clubs_system(tmp_path, {"Membership.yaml": MAPPED.format(said)})
    assert wrong in str(told.value), str(told.value)


@pytest.mark.parametrize("beside", ["columns: {}", "no_rows: none", "part: { constant: a }", "reject: []"])
def test_nothing_but_rules_that_drop_goes_with_members(tmp_path, beside):
    said = "field: clubs, own: person_id, other: club_id, of: Person, names: Club"
    with pytest.raises(ConfigurationError, match="says nothing beside `members`"):
        clubs_system(tmp_path, {"Membership.yaml": f"{MAPPED.format(said)}    {beside}\n"})
