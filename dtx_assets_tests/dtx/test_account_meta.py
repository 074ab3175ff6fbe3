"""keyword and form_field → AccountMeta, Record and Directory (spec 4.6), under every option of their decisions."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.load import LoadSummary, load_target, open_run
from dtx_assets_tests.dtx.oracle import RawRow, Result, Value
from dtx_assets_tests.dtx.running import DECISIONS, SMALL_WORLD, Migration, World, by, reasons, rows

WORLD = World(
    {
        **SMALL_WORLD.crosswalks,
        # 3 and 4 share a directory, the target does not have that of 5, 6 has none.
        "crosswalk_account": rows(
            "customer_id account_id directory_id",
            *((1, 101, 801), (2, 102, 802), (3, 103, 803), (4, 103, 803), (5, 999, 899), (6, 101, None)),
        ),
        "crosswalk_record": rows("vendor_id record_id", (1, 201), (2, 202), (3, 203), (4, 203), (5, 999)),
    },
    {**SMALL_WORLD.other_areas, "docutrax_hierarchy_directory": rows("id", (801,), (802,), (803,))},
)


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Migration:
    return Migration(tmp_path, database_url, WORLD)


def keyword(name: Value, replacement: Value, customer: int = 1) -> RawRow:
    return {"customer_id": str(customer), "keyword": name, "replacement": replacement}


def field(number: int, value: Value, name: Value = "custom_field_0", vendor: Value = "1", customer: int = 1) -> RawRow:
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["form_field"].columns)
    return row | {
        "form_field_id": str(number),
        "customer_id": str(customer),
        "vendor_id": vendor,
        "form_name": "vendor_view",
        "model_name": "Vendorhistory",
        "property_name": name,
        "value": value,
    }


def values(result: Result) -> dict[tuple[int, str], str]:
    return by(result.rows["AccountMeta"], "account_id", "key", "value")


def flows_under(**chosen: str) -> set[str]:
    return {flow.name for flow in SYSTEM.flows_under({**DECISIONS.chosen, **chosen})}


def test_the_options_make_the_graph():
    assert {"account_meta"} <= flows_under()
    assert "account_meta" not in flows_under(keyword="archive")
    assert {"account_meta", "directory_labels"} <= flows_under(keyword="directory_settings", form_field="account_meta")
    assert "record_fields" in flows_under(form_field="record_internal_id")
    assert not {"account_meta", "directory_labels", "record_fields"} & flows_under(keyword="archive")


# --- keyword ----------------------------------------------------------------------------------------------------------

KEYWORDS = [
    keyword("GROUP_NAME", "Centers"),
    keyword("GROUP_NAME", "Malls", customer=2),
    keyword("EMPTY", ""),
    keyword("NONE", None),
    keyword(None, "None"),
    keyword('Caf\u00e9 "x"', "a\nb"),
    keyword("SHARED", "first", customer=3),
    keyword("SHARED", "later", customer=4),
    keyword("LOST", "x", customer=7),
    keyword("NUL", "a\x00b"),
    keyword("TWICE", "one"),
    keyword("TWICE", "two"),
    keyword("TWICE", "two"),
]


def test_a_keyword_becomes_a_value_of_its_account(migration):
    result = migration.run({"keyword": KEYWORDS})
    assert values(result) == {
        (101, "GROUP_NAME"): "Centers",
        (102, "GROUP_NAME"): "Malls",
        (101, "EMPTY"): "",
        (101, 'Caf\u00e9 "x"'): "a\nb",
        (103, "SHARED"): "later",
        (101, "TWICE"): "two",
    }
    assert reasons(result, "AccountMeta") == {
        '["3","SHARED"]': ["duplicate_key"],
        '["7","LOST"]': ["orphan_reference"],
        '["1","NUL"]': ["unparseable"],
        '["1","TWICE"]': ["duplicate_key"],
    }
    account = result.accounting["keyword", "AccountMeta"]
    assert (account.read, account.migrated, account.rejected) == (13, 6, 4)
    assert dict(account.dropped) == {"empty": 2, "identical": 1}


def test_a_keyword_becomes_a_label_of_its_directory(migration):
    result = migration.run(
        {"keyword": [*KEYWORDS, keyword("X", "y", customer=6), keyword("X", "y", customer=5)]},
        keyword="directory_settings",
    )
    labels = {(row["id"], *label) for row in result.rows["Directory"] for label in row["settings"]["labels"].items()}
    assert labels == {
        (801, "GROUP_NAME", "Centers"),
        (802, "GROUP_NAME", "Malls"),
        (801, "EMPTY", ""),
        (801, 'Caf\u00e9 "x"', "a\nb"),
        (803, "SHARED", "later"),
        (801, "TWICE", "two"),
    }
    assert all(list(row["settings"]) == ["labels"] for row in result.rows["Directory"])
    assert reasons(result, "Directory") == {
        '["3","SHARED"]': ["duplicate_key"],
        '["7","LOST"]': ["orphan_reference"],
        '["1","NUL"]': ["unparseable"],
        '["1","TWICE"]': ["duplicate_key"],
        '["6","X"]': ["orphan_reference"],
        '["5","X"]': ["orphan_reference"],
    }


# --- form_field -------------------------------------------------------------------------------------------------------


def test_a_value_that_all_vendors_agree_on_is_kept_as_it_is_others_by_vendor(migration):
    fields = [
        field(1, "Lease 7", "custom_field_0", vendor="1"),
        field(2, "Lease 7", "custom_field_0", vendor="2"),
        field(3, "b", "custom_field_1", vendor="10"),
        field(4, 'a"\u00e9', "custom_field_1", vendor="9"),
        # Customers 3 and 4 are one account.
        field(5, "x", "other", vendor="3", customer=3),
        field(6, "y", "other", vendor="4", customer=4),
        # The highest id counts, as a number.
        field(9, "old", "twice"),
        field(10, "new", "twice", vendor="1.0"),
        field(11, None),
        field(12, ""),
        field(13, "v", None),
        field(14, "v", vendor=None),
        field(15, "v", customer=7),
        field(16, "v", vendor="some"),
        field(17, "v", " other ", vendor="3", customer=3),
    ]
    result = migration.run({"form_field": fields}, form_field="account_meta", keyword="archive")
    assert values(result) == {
        (101, "form_field.custom_field_0"): "Lease 7",
        (101, "form_field.custom_field_1"): '{"10":"b","9":"a\\"\u00e9"}',
        (103, "form_field.other"): '{"3":"x","4":"y"}',
        # A property is told by its exact name: it is no code.
        (103, "form_field. other "): "v",
        (101, "form_field.twice"): "new",
    }
    assert reasons(result, "AccountMeta") == {
        "9": ["duplicate_key"],
        "13": ["schema_violation"],
        "14": ["schema_violation"],
        "15": ["orphan_reference"],
        "16": ["unparseable"],
    }
    account = result.accounting["form_field", "AccountMeta"]
    assert (account.read, account.migrated, dict(account.dropped)) == (15, 8, {"empty": 2})
    split = migration.run({"form_field": fields}, form_field="account_meta", keyword="archive", batch_rows=1)
    assert values(split) == values(result)
    assert split.links == result.links


def test_keyword_and_form_field_fill_one_table_and_never_the_same_row(migration):
    tables = {
        "keyword": [keyword("form_field.custom_field_0", "label"), keyword("GROUP_NAME", "Centers")],
        "form_field": [field(1, "value"), field(2, "value", "custom_field_1")],
    }
    result = migration.run(tables, form_field="account_meta")
    assert values(result) == {
        (101, "form_field.custom_field_0"): "label",
        (101, "form_field.custom_field_1"): "value",
        (101, "GROUP_NAME"): "Centers",
    }
    assert reasons(result, "AccountMeta") == {"1": ["duplicate_key"]}


def test_the_first_two_custom_fields_are_filled_into_the_record(migration):
    fields = [
        field(1, "Lease 7", "custom_field_0", vendor="1"),
        field(2, "Unit 3", "custom_field_1", vendor="1"),
        field(3, "x", "custom_field_2", vendor="1"),
        field(4, "x", None, vendor="1"),
        # No code column: the name must be exact.
        field(5, "x", "Custom_Field_1", vendor="2"),
        field(6, "x", " custom_field_0", vendor="2"),
        field(7, "x", "custom_field_2", vendor="5"),
        # Vendors 3 and 4 are one record.
        field(9, "old", vendor="3"),
        field(10, "new", vendor="4"),
        field(11, "lost", vendor="5"),
        field(12, None, vendor="5"),
        field(13, "a\x00b", vendor="2"),
    ]
    result = migration.run({"form_field": fields}, form_field="record_internal_id")
    assert {(row["id"], row["internal_id"], row["internal_id1"]) for row in result.rows["Record"]} == {
        (201, "Lease 7", None),
        (201, None, "Unit 3"),
        (203, "new", None),
    }
    assert reasons(result, "Record") == {
        "3": ["unmapped_value"],
        "4": ["unmapped_value"],
        "5": ["unmapped_value"],
        "6": ["unmapped_value"],
        "7": ["orphan_reference", "unmapped_value"],
        "9": ["duplicate_key"],
        "11": ["orphan_reference"],
        "13": ["unparseable"],
    }
    assert dict(result.accounting["form_field", "Record"].dropped) == {"empty": 1}


# --- in the target ----------------------------------------------------------------------------------------------------

META = "docutrax_hierarchy_accountmeta"


def load(migration: Migration, run_id: str, model: str = "AccountMeta") -> LoadSummary:
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    context = replace(context, decisions=migration.lake.require(("dtx", "prepared", model)).metadata["decisions"])
    return load_target("dtx", SYSTEM.target(model), migration.lake, migration.database_url, context)


def stored(migration: Migration, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        return connection.execute(query).fetchall()


def test_both_sources_are_loaded_once_and_a_change_reaches_just_its_row(migration):
    tables = {
        "keyword": [keyword("GROUP_NAME", "Centers"), keyword("EMPTY", ""), keyword("TAKEN", "by hand", customer=2)],
        "form_field": [field(1, "a"), field(2, "b", vendor="2"), field(3, "same", "other"), field(4, "same", "other")],
    }
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"INSERT INTO {META} (account_id, key, value) VALUES (102, 'TAKEN', 'by someone')")
    migration.run(tables, form_field="account_meta")
    first = load(migration, "first")
    assert (first.inserted, first.conflicts, first.rejected) == (4, 1, 2)
    everything = f"SELECT account_id, key, value FROM {META} ORDER BY 1, 2"
    expected = [
        (101, "EMPTY", ""),
        (101, "GROUP_NAME", "Centers"),
        (101, "form_field.custom_field_0", '{"1":"a","2":"b"}'),
        (101, "form_field.other", "same"),
        (102, "TAKEN", "by someone"),
    ]
    assert sorted(stored(migration, everything)) == expected
    mapped = "SELECT source_table, source_key, part FROM migration.mapping ORDER BY 1, 2"
    assert stored(migration, mapped) == [
        ("form_field", "1", "form_field.custom_field_0"),
        ("form_field", "2", "form_field.custom_field_0"),
        ("form_field", "4", "form_field.other"),
        ("keyword", '["1","EMPTY"]', "EMPTY"),
        ("keyword", '["1","GROUP_NAME"]', "GROUP_NAME"),
    ]

    migration.run(tables, form_field="account_meta")
    second = load(migration, "second")
    assert (second.inserted, second.updated, second.vanished) == (0, 0, 0)

    migration.run({**tables, "form_field": [*tables["form_field"], field(5, "c")]}, form_field="account_meta")
    third = load(migration, "third")
    assert (third.inserted, third.updated, third.vanished) == (0, 1, 0)
    assert stored(migration, f"SELECT value FROM {META} WHERE key = 'form_field.custom_field_0'") == [
        ('{"1":"c","2":"b"}',)
    ]


def test_labels_are_merged_beside_what_the_directory_has(migration):
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(
            "UPDATE docutrax_hierarchy_directory SET settings = %s WHERE id = 801",
            ['{"theme": "dark", "labels": {"TAKEN": "by someone", "EQUAL": "same"}}'],
        )
    tables = {
        "keyword": [
            keyword("TAKEN", "other"),
            keyword("EQUAL", "same"),
            keyword("A", "a"),
            keyword("B", ""),
            keyword("A", "c", customer=3),
        ]
    }
    chosen = {"keyword": "directory_settings"}
    migration.run(tables, **chosen)
    first = load(migration, "first", "Directory")
    assert (first.updated, first.adopted, first.conflicts, first.rejected) == (3, 1, 1, 1)
    settings = "SELECT id, settings FROM docutrax_hierarchy_directory ORDER BY id"
    expected = [
        (801, {"theme": "dark", "labels": {"TAKEN": "by someone", "EQUAL": "same", "A": "a", "B": ""}}),
        (802, None),
        (803, {"labels": {"A": "c"}}),
    ]
    assert stored(migration, settings) == expected
    migration.run(tables, **chosen)
    second = load(migration, "second", "Directory")
    assert (second.updated, second.vanished) == (0, 0)
    assert stored(migration, settings) == expected

    tables["keyword"][2] = keyword("A", "new")
    migration.run(tables, **chosen)
    assert load(migration, "third", "Directory").updated == 1
    assert stored(migration, settings)[0][1]["labels"] == expected[0][1]["labels"] | {"A": "new"}


def test_a_form_field_that_is_wrong_in_itself_is_not_also_a_duplicate_of_a_keyword(migration):
    fields = [field(1, "a", vendor="x"), field(2, "b")]
    tables = {"keyword": [keyword("form_field.custom_field_0", "Malls")], "form_field": fields}
    found = reasons(migration.run(tables, form_field="account_meta"), "AccountMeta")
    assert found == {"1": ["unparseable"], "2": ["duplicate_key"]}


@pytest.mark.parametrize("batch_rows", [100_000, 1])
def test_accounts_of_one_directory_settle_the_keywords_they_share(tmp_path, database_url, batch_rows):
    """Customers 2 and 3 of the small world: accounts 102 and 103, directory 802."""
    migration = Migration(tmp_path, database_url)
    shared = [
        keyword("GROUP_NAME", "Malls", customer=3),
        keyword("OWN", "two", customer=2),
        keyword("GROUP_NAME", "Centers", customer=2),
        keyword("OTHER", "three", customer=3),
    ]

    def loaded(run_id: str, *rows: RawRow) -> tuple[LoadSummary, object]:
        result = migration.run({"keyword": rows}, batch_rows=batch_rows, keyword="directory_settings")
        assert set(map(tuple, reasons(result, "Directory").values())) <= {("duplicate_key",)}
        summary = load(migration, run_id, "Directory")
        [(labels,)] = stored(migration, "SELECT settings -> 'labels' FROM docutrax_hierarchy_directory WHERE id = 802")
        return summary, labels

    first, labels = loaded("first", *shared)
    assert labels == {"GROUP_NAME": "Centers", "OWN": "two", "OTHER": "three"}
    assert (first.updated, first.rejected, first.conflicts) == (3, 1, 0)
    assert stored(migration, "SELECT source_key, reasons FROM migration.rejected") == [
        ('["3","GROUP_NAME"]', ["duplicate_key"])
    ]
    again, _ = loaded("second", *shared)
    assert (again.updated, again.vanished, again.conflicts) == (0, 0, 0)
    turned, labels = loaded("third", *reversed(shared))
    assert labels == {"GROUP_NAME": "Malls", "OWN": "two", "OTHER": "three"}
    assert (turned.updated, turned.vanished, turned.conflicts) == (1, 0, 0)


def test_custom_fields_fill_what_is_empty_in_the_record(migration):
    with psycopg.connect(migration.database_url) as connection:
        connection.execute("UPDATE docutrax_hierarchy_record SET internal_id = 'by hand' WHERE id = 201")
        connection.execute("UPDATE docutrax_hierarchy_record SET internal_id = '' WHERE id = 202")
    fields = [
        field(1, "Lease 7", vendor="1"),
        field(2, "Unit 3", "custom_field_1", vendor="1"),
        field(3, "Lease 8", vendor="2"),
    ]
    migration.run({"form_field": fields}, form_field="record_internal_id")
    first = load(migration, "first", "Record")
    assert (first.updated, first.conflicts, first.rejected) == (2, 1, 1)
    expected = [(201, "by hand", "Unit 3"), (202, "Lease 8", None), (203, None, None), (204, None, None)]
    records = "SELECT id, internal_id, internal_id1 FROM docutrax_hierarchy_record ORDER BY id"
    assert stored(migration, records) == expected
    migration.run({"form_field": fields}, form_field="record_internal_id")
    second = load(migration, "second", "Record")
    assert (second.updated, second.vanished) == (0, 0)
    assert stored(migration, records) == expected
