"""What asset pages show: nothing personal, nothing that breaks a table, lineage twice."""

import html
import re
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.dagster.metadata import (
    ACCOUNTING_DATA,
    BEYOND_PREVIEW,
    PREVIEW,
    accounting_metadata,
    check_metadata,
    code_references,
    counts_text,
    dataset_column_schema,
    facts_text,
    legacy_column_schema,
    lineage_metadata,
    markdown_table,
    masked_preview,
    obstacles_table,
    red_metadata,
    target_column_schema,
)
from dtx_assets.machinery.mapping.lineage import PartLineage
from dtx_assets.machinery.mapping.provenance import Cell, MadeOf
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable


def test_cells_cannot_break_a_markdown_table_or_smuggle_tags():
    shown = markdown_table(("a", "b"), [("x|y", "line\nbreak <script>")]).value
    assert shown == "| a | b |\n| --- | --- |\n| x\\|y | line break &lt;script> |"


@pytest.mark.parametrize(
    "value",
    [
        "![seen](http://evil.example/?row=1)",
        "[click](javascript:alert(1))",
        "[click][a]",
        "<img src=x onerror=alert(1)>",
        "<http://evil.example>",
        "http://evil.example/a",
        "xHTTPS://evil.example",
        "&#104;ttp://evil.example &lt;b&gt;",
        "www.evil.example",
        "write to someone.else@evil.example",
        "```\n# not a heading\n```",
        "`a | b`",
        "\\| \\` \\[x](y)",
        "a\r\n\r\n# heading\u2028> quote",
    ],
)
def test_legacy_values_are_shown_and_do_nothing(value):
    header, _, row = markdown_table((value,), [(value,)]).value.splitlines()
    assert header == row
    unescaped = re.sub(r"\\.", "", row)
    assert unescaped.count("|") == 2
    assert not re.search(r"[\[\]`<]|&(?!lt;|amp;)", unescaped)
    assert not re.search(r"https?://|www\.|\w@\w", html.unescape(row), re.IGNORECASE)


def test_names_of_columns_do_nothing_either():
    ugly = ["![x](http://e.example)", "a`b", "a|b", "a\\|b", "two words"]
    told = lineage_metadata({name: [(("dtx", "legacy", name), name)] for name in ugly})["columns come from"]
    # A table of texts: nothing in it is read as Markdown, and each is as it stands there.
    assert isinstance(told, dg.TableMetadataValue)
    assert [record.data["column"] for record in told.records] == ugly


def test_a_preview_masks_personal_columns_and_names_what_it_leaves_out():
    columns = {f"c{number}": ["a@b.com"] for number in range(14)}
    rows = pl.DataFrame({"subject": ["Hello Anna"], **columns, "_undecodable": [None]})
    shown = masked_preview(rows, {"subject"})
    told = str(shown[PREVIEW].records)
    assert "Anna" not in told
    assert "a@b.com" not in told
    assert "H… (10 characters)" in told
    assert shown[BEYOND_PREVIEW] == "c11, c12, c13"
    assert [column.name for column in shown[PREVIEW].schema.columns] == ["subject", *columns][:12]


def test_an_empty_preview_still_shows_the_columns():
    shown = masked_preview(pl.DataFrame(schema={"a": pl.String}), ())[PREVIEW]
    assert ([column.name for column in shown.schema.columns], shown.records) == (["a"], [])


def test_legacy_columns_say_their_kind_key_and_who_may_see_them():
    table = LegacyTable(
        name="letter",
        area="notifications",
        columns=("letter_id", "subject"),
        key=("letter_id",),
        required=("subject",),
        kind_of=lambda name: "integer" if name.endswith("_id") else "text",
        personal=frozenset({"subject"}),
    )
    schema = legacy_column_schema(table)
    assert [(column.name, column.type, column.description) for column in schema.columns] == [
        ("letter_id", "text", "integer, key"),
        ("subject", "text", "text, required, personal, masked in previews"),
    ]
    assert schema.constraints.other == ["unique (letter_id)"]


def test_values_of_a_column_that_nobody_named_are_masked():
    table = LegacyTable(name="letter", area="a", columns=("letter_id", "subject"), personal=frozenset({"subject"}))
    assert not table.is_personal("letter_id")
    assert table.is_personal("subject")
    assert table.is_personal("added by somebody")


def test_datasets_tell_their_columns_as_polars_types_them():
    schema = dataset_column_schema(
        pl.Schema({"source_id": pl.Int64(), "reasons": pl.List(pl.String)}), {"reasons": "W"}
    )
    assert [(column.name, column.type, column.description) for column in schema.columns] == [
        ("source_id", "Int64", ""),
        ("reasons", "List(String)", "W"),
    ]


def test_target_columns_say_meaning_origin_and_constraints():
    table = TargetTable(
        name="t",
        model="T",
        area="a",
        natural_key=("kind",),
        columns=(
            TargetColumn("kind", "text", "Which.", allowed=("x", "y")),
            TargetColumn("days", "jsonb", "When.", nullable=True, needed_when=("dow", "send_days"), references="u"),
        ),
    )
    schema = target_column_schema(table, {"kind": "From letter.type."})
    kind, days = schema.columns
    assert kind.description == "Which. From letter.type."
    assert not kind.constraints.nullable
    assert kind.constraints.other == ["one of x, y"]
    assert days.description == "When. Needed when dow is send_days."
    assert days.constraints.other == ["references u"]
    assert schema.constraints.other == ["unique (kind)"]


def test_lineage_is_there_for_dagster_and_for_people():
    metadata = lineage_metadata({"name": [(("dtx", "legacy", "letter"), "type")], "is_active": []})
    lineage = metadata["dagster/column_lineage"]
    assert lineage.deps_by_column == {"name": [dg.TableColumnDep(dg.AssetKey(["dtx", "legacy", "letter"]), "type")]}
    told = {record.data["column"]: record.data["from"] for record in metadata["columns come from"].records}
    assert told == {"name": "legacy/letter.type", "is_active": "a constant"}


def test_what_differs_between_the_parts_of_a_row_is_a_table_of_its_own():
    wait, other, key = ("dtx", "legacy", "letter"), ("dtx", "legacy", "stamp"), Cell("key", "stamp")
    parts = [
        PartLineage("letter", "stage", "first", {"days": MadeOf(()), "kind": MadeOf((Cell("a"), key))}),
        PartLineage("letter", "stage", "second", {"days": MadeOf((Cell("a"), Cell("b")), "sum")}),
    ]
    lineage = {"days": [(wait, "a"), (wait, "b"), (other, "c")], "kind": [(wait, "a")], "name": [(wait, "a")]}
    metadata = lineage_metadata(lineage, parts)
    told = [(record.data["column"], record.data["from"]) for record in metadata["columns come from"].records]
    assert told == [
        ("days", 'see "cells by stage of letter"'),
        ("", "legacy/stamp.c"),
        ("kind", 'see "cells by stage of letter"'),
        ("name", "legacy/letter.a"),
    ]
    assert [record.data for record in metadata["cells by stage of letter"].records] == [
        {"stage": "first", "days": "a constant", "kind": "a, stamp.key"},
        {"stage": "second", "days": "a + b", "kind": "a constant"},
    ]
    assert len(metadata["dagster/column_lineage"].deps_by_column["days"]) == 3


def test_accounting_is_there_for_people_and_as_data():
    entry = {
        "source_table": "s",
        "target_table": "t",
        "read": 1200,
        "migrated": 1000,
        "rejected": 150,
        "dropped": {"empty": 50},
    }
    metadata = accounting_metadata([entry])
    [record] = metadata["accounting"].records
    assert list(record.data.values()) == ["s", "t", "1,200", "1,000", "150", "empty 50"]
    assert metadata[ACCOUNTING_DATA].value == [entry]
    assert counts_text({}) == "–"


def test_what_checks_found_can_be_read_without_opening_it():
    shown = check_metadata(
        {
            "examples": [{"key": "1", "value": "x"}, {"key": "2"}],
            "keys": ["1", "2"],
            "rows by type": {"COI": 3},
            "share": 0.5,
        }
    )
    assert [record.data for record in shown["examples"].records] == [
        {"key": "1", "value": "x"},
        {"key": "2", "value": ""},
    ]
    assert shown["keys"] == "1, 2"
    assert [record.data for record in shown["rows by type"].records] == [{"value": "COI", "count": 3}]
    assert facts_text({"rows by type": shown["rows by type"], "share": dg.MetadataValue.float(0.5)}) == (
        "rows by type: COI 3; share: 0.5"
    )
    assert shown["share"] == 0.5
    assert check_metadata({"none": [], "nested": [[1], [2]]}) == {"none": [], "nested": [[1], [2]]}


def test_code_references_name_files_relative_to_the_project():
    here = Path(__file__)
    references = code_references(here.parents[3], here, test_lineage_is_there_for_dagster_and_for_people)
    file, function = references["dagster/code_references"].code_references
    assert file.label == "dtx_assets_tests/machinery/dagster/test_metadata.py"
    assert file.line_number == 1
    assert function.line_number > 50


def test_a_list_of_what_is_in_the_way_begins_with_who_and_for_what():
    """A table wider than its cell shows its first columns; a name that cannot be broken would fill it alone."""
    found = [
        Obstacle("rejected", "Animal/beast/unparseable", "beast → Animal", "2 rows are rejected", "ann", "mend it", 2),
        Obstacle("question", "asked", "", "is it so?"),
    ]
    rows = [list(record.data.values()) for record in obstacles_table(found, ["asked"]).records]
    assert rows == [
        ["ann", "beast → Animal: 2 rows are rejected", "mend it", "2", "Animal/beast/unparseable", "no"],
        ["nobody named", "is it so?", "", "", "asked", "yes"],
    ]
    red = red_metadata(found[:1])["closes the gate for"]
    assert [column.name for column in red.schema.columns] == ["owner", "found", "do", "rows", "what"]
