"""Fields of documents in the columns of a live target: what is missing, null, and what ids name."""

from datetime import UTC, datetime
from uuid import UUID, uuid5

import polars as pl
import pytest

from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.transforms.columns import TransformContext
from dtx_assets.machinery.transforms.document_values import (
    CROSSWALK,
    DocumentRules,
    document_id,
    document_reference,
    document_time,
    document_value,
)

NAMESPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
ALICE, LOSER, LOST, NOBODY = "a" * 24, "b" * 24, "c" * 24, "d" * 24
IDS = pl.DataFrame(
    [
        (ALICE, "row of alice", None, False, ALICE),
        (LOSER, "row of alice", "rejected", True, ALICE),
        (LOST, None, "rejected", False, LOST),
    ],
    schema=CROSSWALK,
    orient="row",
)
RULES = DocumentRules(namespace=NAMESPACE, defaults={"__v": "0"})


def column(type_name="text", name="field", **facts):
    return TargetColumn(name, type_name, "", **facts)


def context(held):
    return TransformContext(
        {"Users": IDS.lazy()}, {}, {}, "UTC", datetime(2026, 1, 1, tzinfo=UTC), held={held.name: held}, column=held.name
    )


def oid(digits):
    return f'{{"$oid":"{digits}"}}'


def read(outcome, text, key=None):
    """The value, the reasons, and the kinds that are counted, each as often as it is."""
    frame = pl.DataFrame({"source": [text], "_id": [key]}, schema={"source": pl.String, "_id": pl.String})
    hits = [
        *(entry.when.fill_null(False).alias(f"p{n}") for n, entry in enumerate(outcome.problems)),
        *(entry.when.fill_null(False).alias(f"c{n}") for n, entry in enumerate(outcome.coercions)),
        *((pl.lit(1) if e.values is None else e.values).alias(f"n{n}") for n, e in enumerate(outcome.coercions)),
    ]
    row = frame.select(outcome.value.alias("value"), *hits).row(0, named=True)
    reasons = sorted({entry.reason for n, entry in enumerate(outcome.problems) if row[f"p{n}"]})
    counted = {entry.kind: row[f"n{n}"] for n, entry in enumerate(outcome.coercions) if row[f"c{n}"]}
    return row["value"], reasons, counted


def value(held, text, rules=RULES, key=None):
    return read(document_value([pl.col("source")], context(held), rules), text, key)


def reference(held, text, rules=RULES):
    return read(document_reference([pl.col("source")], context(held), rules, "Users"), text)


@pytest.mark.parametrize(
    ("held", "text", "expected"),
    [
        (column(), None, (None, ["schema_violation"], {})),
        (column(), "null", (None, ["schema_violation"], {})),
        (column(), '""', ("", [], {})),
        (column(nullable=True), None, (None, [], {})),
        (column(nullable=True), "null", (None, [], {})),
        (column(default="Inactive"), None, ("Inactive", [], {"defaulted": 1})),
        (column(default="Inactive"), "null", (None, ["schema_violation"], {})),
        (column("integer", "__v"), None, (0, [], {"defaulted": 1})),
        (column("boolean", default="true"), None, (True, [], {"defaulted": 1})),
        (column("integer"), '{"$numberLong":"3000000000"}', (None, ["schema_violation"], {})),
        (column("bigint"), '{"$numberLong":"3000000000"}', (3_000_000_000, [], {})),
        (column("mood", allowed=("NEW", "OLD")), '" new"', ("NEW", [], {"enum_case": 1})),
        (column("mood", allowed=("NEW", "OLD"), default="NEW"), '"LOST"', (None, ["unmapped_value"], {})),
        (column("timestamp", filled_with_now=True), None, (None, ["schema_violation"], {})),
    ],
)
def test_what_a_column_takes_is_as_it_is_live(held, text, expected):
    assert value(held, text) == expected


def test_a_default_is_not_taken_where_that_was_decided():
    rules = DocumentRules(missing="reject", defaults={"__v": "0"})
    assert value(column(default="Inactive"), None, rules) == (None, ["schema_violation"], {})
    assert value(column("integer", "__v"), None, rules) == (None, ["schema_violation"], {})


def test_the_time_of_creation_is_in_the_object_id():
    rules, held = DocumentRules(created="object_id_time"), column("timestamp", filled_with_now=True)
    made = value(held, None, rules, oid("507f1f77bcf86cd799439011"))
    assert made == ("2012-10-17 21:13:27", [], {"created_from_id": 1})
    assert value(held, None, rules, '"no id"') == (None, ["schema_violation"], {})
    assert value(held, "null", rules, oid("507f1f77bcf86cd799439011")) == (None, ["schema_violation"], {})


@pytest.mark.parametrize("milliseconds", [0, 1_700_000_000_123, -1, -62_135_596_800_001, 253_402_300_800_000])
def test_times_of_any_year_are_sorted_by_their_milliseconds(milliseconds):
    made = document_time([pl.col("source")], context(column("timestamp", "at")), RULES, "at")
    assert read(made, f'{{"$date":{{"$numberLong":"{milliseconds}"}}}}')[0] == milliseconds


def test_a_reference_is_what_the_crosswalk_says():
    held = column("uuid", nullable=True, references="Users")
    assert reference(held, oid(ALICE)) == ("row of alice", [], {})
    assert reference(held, f'" {ALICE.upper()} "') == ("row of alice", [], {"id_from_text": 1})
    assert reference(held, oid(LOSER)) == ("row of alice", [], {"merged_reference": 1})
    assert reference(held, f'"{LOST}"') == (None, [], {"dangling_reference": 1})
    assert reference(held, '" "') == (None, [], {"empty_to_null": 1})
    assert reference(held, '"nobody"') == (None, ["unparseable"], {})
    assert reference(held, oid(LOST), DocumentRules(dangling="reject"))[1] == ["orphan_reference"]


def test_a_required_reference_is_never_null():
    held = column("uuid", references="Users")
    assert reference(held, oid(LOST)) == (None, ["orphan_reference"], {})
    assert reference(held, None) == (None, ["schema_violation"], {})
    assert reference(held, '""') == (None, ["unparseable"], {})


def test_an_id_without_a_foreign_key_is_kept_or_null():
    held = column("uuid", nullable=True)
    assert reference(held, f'"{NOBODY}"') == (str(uuid5(UUID(NAMESPACE), NOBODY)), [], {"id_from_text": 1})
    for rules in (DocumentRules(unconstrained="null", namespace=NAMESPACE), DocumentRules()):
        assert reference(held, oid(NOBODY), rules) == (None, [], {"dangling_reference": 1})


def test_arrays_of_ids_hold_each_row_once():
    held = column("uuid[]", nullable=True)
    assert reference(held, None) == reference(held, "null") == ("{}", [], {})
    members = f'[{oid(ALICE)},"{LOSER}",null,{oid(NOBODY)}]'
    rules = DocumentRules(unconstrained="null", namespace=NAMESPACE)
    counted = {"id_from_text": 1, "merged_reference": 1, "duplicate_member": 1, "null_member": 1}
    assert reference(held, members, rules) == ('{"row of alice"}', [], {**counted, "dangling_reference": 1})
    assert reference(held, oid(ALICE)) == ('{"row of alice"}', [], {"scalar_to_array": 1})
    assert reference(held, '["nobody"]') == (None, ["unparseable"], {})


def test_random_ids_are_those_that_were_given_before():
    given = pl.DataFrame({"source_table": ["Users", "Boards"], "source_id": [ALICE, LOST], "target_id": ["u", "b"]})
    facts = TransformContext({"given": given.lazy()}, {}, {}, "UTC", datetime(2026, 1, 1, tzinfo=UTC))
    made = document_id([pl.col("source")], facts, DocumentRules(), "given", "Users")
    assert read(made, oid(ALICE)) == ("u", [], {})
    assert UUID(read(made, oid(LOST))[0]).version == 4
    assert read(made, None)[1] == read(made, "5")[1] == ["unparseable"]
