"""Each own check of CRM with documents that make it fail, and with such that do not; rows as the lake has them."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import polars as pl
import psycopg
import pytest

from dtx_assets.crm.checks import CHECKS, lost_ids, not_ours, outside, texts_with_ids
from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.machinery.checks.own import OwnCheck
from dtx_assets.machinery.transforms.document_values import CROSSWALK
from dtx_assets_tests.crm.small_load import INDUSTRIES, SmallLoad

HERE, GONE, REJECTED = (f"{number:024x}" for number in (1, 2, 3))
MODELS = [target.model for target in SYSTEM.filled_targets if not target.is_junction]
OWN = CHECKS.of(SYSTEM)


def own(name: str, asset: str) -> OwnCheck:
    [check] = [check for check in OWN if check.spec.name == name and "/".join(check.spec.asset) == asset]
    return check


def oid(digits: str) -> str:
    return f'{{"$oid":"{digits}"}}'


def look(documents: Sequence[Mapping[str, str | None]], migrated: Sequence[int] | None = None) -> Any:
    """What checks see of documents of one collection; those that are `migrated` by number, or all.

    Of all collections the document HERE is migrated, and REJECTED is known and is not.
    """
    frame = pl.DataFrame(list(documents)).with_row_index("_row", 1).with_columns(pl.col("_row").cast(pl.Int64))
    keys = frame.select("_row", pl.format("key {}", "_row").alias("_source_key"))
    numbers = list(range(1, frame.height + 1)) if migrated is None else list(migrated)
    links = {"source_row": pl.Series(numbers, dtype=pl.Int64), "source_key": [f"key {each}" for each in numbers]}
    known = [(HERE, "a row", None, False, HERE), (REJECTED, None, "rejected", False, REJECTED)]
    mapping = pl.DataFrame(known, schema=CROSSWALK, orient="row").lazy()
    of_others = pl.DataFrame({"source_row": [1], "source_key": [HERE]}).lazy()
    made: dict[str, pl.LazyFrame] = {}
    return SimpleNamespace(
        legacy=lambda _model: frame.join(keys, on="_row").lazy(),
        links=lambda model: made.setdefault(model, of_others) if migrated is None else pl.DataFrame(links).lazy(),
        mapping=lambda _name: mapping,
    )


# --- what stays as it is ----------------------------------------------------------------------------------------------


def ids_found(field: str, *values: str | None) -> list[str]:
    documents = [{field: value} for value in values]
    found = texts_with_ids(look(documents), model="Documents", texts=[field], system=SYSTEM).collect()
    assert set(found["field"]) <= {field}
    return sorted(found["_source_key"])


def test_ids_in_text_are_those_of_migrated_documents():
    values = [f'"{HERE}"', f'["{GONE}","{HERE.upper()}"]', f'["{GONE}"]', '"a text"', None, "null", oid(HERE)]
    # An ObjectId in a column of texts becomes such a text.
    assert ids_found("connected_documents", *values) == ["key 1", "key 2", "key 7"]
    assert ids_found("connected_documents", '["a"]', "[]") == []


def test_ids_in_json_are_object_ids_whatever_they_name():
    assert ids_found("tags", f'{{"by":{oid(GONE)}}}', f'{{"by":"{HERE}"}}', "null", None) == ["key 1"]


def test_every_collection_with_texts_is_looked_at():
    named = {"/".join(check.spec.asset) for check in OWN if check.spec.name == "ids_in_text"}
    assert named >= {f"target/{model}" for model in ("Documents", "TodoList", "Users", "crm_Leads", "Boards")}


# --- ids that name nobody ---------------------------------------------------------------------------------------------


def test_ids_that_name_no_migrated_document_are_listed_by_field():
    documents = [
        {"createdBy": oid(HERE), "sharedWith": f'[{oid(HERE)},"{GONE.upper()}"]'},
        {"createdBy": oid(GONE), "sharedWith": None},
        {"createdBy": f'" {REJECTED}"', "sharedWith": "null"},
        {"createdBy": '"no id"', "sharedWith": "[]"},
        {"createdBy": oid(GONE), "sharedWith": f"[{oid(GONE)}]"},
    ]
    named = {"createdBy": "Users", "sharedWith": "Users"}
    found = lost_ids(look(documents, migrated=[1, 2, 3, 4]), model="Boards", named=named).collect()
    assert sorted(found.select("_source_key", "field", "id").iter_rows()) == [
        ("key 1", "sharedWith", GONE),
        ("key 2", "createdBy", GONE),
        ("key 3", "createdBy", REJECTED),
    ]
    assert lost_ids(look(documents, migrated=[4]), model="Boards", named=named).collect().is_empty()


@pytest.mark.parametrize(
    ("name", "model", "fields"),
    [
        ("unconstrained_references", "crm_Contacts", {"account", "createdBy", "updatedBy", "last_activity_by"}),
        ("unconstrained_references", "Boards", {"sharedWith", "createdBy", "updatedBy"}),
        ("dangling_references", "crm_Leads", {"assigned_to", "accountsIDs"}),
        ("dangling_references", "Sections", None),
    ],
)
def test_fields_with_and_without_a_foreign_key_are_told_apart(name, model, fields):
    """Of the 23 without one, those that the contract counts; a reference that a row cannot do without is rejected."""
    if fields is None:
        nullable = {column.name for column in SYSTEM.target(model).columns if column.references and column.nullable}
        fields = nullable
    documents = [dict.fromkeys(fields, oid(GONE))] if fields else []
    checks = [check for check in OWN if check.spec.name == name and check.spec.asset[1] == model]
    assert len(checks) == bool(fields)
    for check in checks:
        assert check.rows
        found = check.rows(look([dict.fromkeys(SYSTEM.legacy_tables[model].columns), *documents], [1, 2])).collect()
        assert set(found["field"]) == fields


def test_all_fields_without_a_foreign_key_are_looked_at():
    found = [
        column.name
        for model in MODELS
        for source in SYSTEM.mappings.for_target(model).sources.values()
        for name, entry in source.columns.items()
        if entry.crosswalk and (column := SYSTEM.target(model).column(name)) and not column.references
        if name not in SYSTEM.target(model).key
    ]
    assert len(found) == 23


# --- what is not plausible --------------------------------------------------------------------------------------------


def test_dates_are_of_their_time():
    right = ["1900-01-01 00:00:00", "2099-12-31 23:59:59.999", None]
    wrong = ["1899-12-31 23:59:59", "2100-01-01 00:00:00", "0100-01-01 00:00:00", "12024-01-01 00:00:00"]
    wrong.append("1999-01-01 00:00:00 BC")
    find = outside(["startDate", "endDate"])
    frame = pl.DataFrame({"startDate": [*right, *wrong]}).with_columns(pl.lit(None, pl.String).alias("endDate"))
    assert frame.filter(find.when)["startDate"].to_list() == wrong
    assert frame.select(**find.counts).sum().row(0) == (5, 0)
    assert {check.spec.asset for check in OWN if check.spec.name == "dates_are_of_their_time"} >= {
        ("prepared", "crm_Contracts"),
        ("prepared", "Users"),
    }


def test_e_mails_that_differ_by_case_only():
    check = own("email_case", "prepared/Users")
    find = check.function(SimpleNamespace())
    for emails, wrong in (
        (["a@example.org", "A@example.org", "b@example.org"], ["a@example.org", "A@example.org"]),
        (["a@example.org", "b@example.org"], []),
    ):
        assert pl.DataFrame({"email": emails}).filter(find.when)["email"].to_list() == wrong


# --- what others made -------------------------------------------------------------------------------------------------


def test_rows_of_others_are_counted_with_the_names_that_stand_there_twice(tmp_path, database_url):
    """Of each table: the new system's own seed makes lookups and users."""
    SmallLoad(tmp_path, database_url).load()
    with psycopg.connect(database_url) as connection:

        def select(query: Any) -> pl.LazyFrame:
            cursor = connection.execute(query)
            names = [column.name for column in cursor.description or ()]
            return pl.LazyFrame(cursor.fetchall(), schema=names, orient="row")

        def found(model: str) -> Any:
            return not_ours(SimpleNamespace(asset=("target", model), system=SYSTEM, select=select))  # type: ignore[arg-type]

        assert (found("crm_Industry_Type").passed, found("AccountWatchers").passed) == (True, True)
        connection.execute(
            'INSERT INTO "crm_Industry_Type" (id, __v, name) SELECT gen_random_uuid(), 0, each'
            " FROM unnest(%s::text[]) AS each",
            [[INDUSTRIES[0], "made by others"]],
        )
        outcome = found("crm_Industry_Type")
        assert (outcome.passed, outcome.count) == (False, 2)
        assert outcome.metadata["name that stands there twice"] == [INDUSTRIES[0]]
        connection.execute(
            'WITH u AS (INSERT INTO "Users" (id, email) VALUES (gen_random_uuid(), %s) RETURNING id),'
            ' a AS (INSERT INTO "crm_Accounts" (id, __v, name) VALUES (gen_random_uuid(), 0, %s) RETURNING id)'
            ' INSERT INTO "AccountWatchers" (account_id, user_id) SELECT a.id, u.id FROM a, u',
            ["team@example.org", "of others"],
        )
        assert [found(model).count for model in ("AccountWatchers", "Users", "crm_Accounts")] == [1, 1, 1]
        # As many as loads inserted, and one of them is of others.
        connection.execute('DELETE FROM "crm_Industry_Type" WHERE name IN (%s, %s)', ["made by others", INDUSTRIES[1]])
        assert found("crm_Industry_Type").count == 1
    assert {check.spec.asset[1] for check in OWN if check.spec.name == "not_ours"} == {
        target.model for target in SYSTEM.filled_targets
    }
