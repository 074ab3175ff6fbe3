"""A mapping does what its file says: each way of making a column, with the rows it rejects and what it counts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import Findings
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.mapping.value_map import read_value_map
from dtx_assets.machinery.transforms import binary, keys, times
from dtx_assets.machinery.transforms.columns import GENERIC, TransformContext

UNDECODABLE = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))

CONTEXT = TransformContext(
    crosswalks={
        "keeper": pl.LazyFrame(
            {"source_id": ["1", "2", "3"], "target_id": [100, 200, None]},
            schema={"source_id": pl.String, "target_id": pl.Int64},
        )
    },
    value_maps={
        "species": pl.DataFrame({"kind": [" Cat", "dog"], "species": ["Felis", None], "tame": [True, False]}),
    },
    decisions={"shape": "round"},
    timezone="UTC",
    cutover_at=datetime(2026, 11, 21, tzinfo=UTC),
)


def apply(rows: dict[str, list[Any]], columns: dict[str, Any], helpers: dict[str, Any] | None = None) -> pl.DataFrame:
    """The rows with what a mapping of these columns adds to them."""
    mapping = SourceMapping.model_validate({"columns": columns, "helpers": helpers or {}})
    count = len(next(iter(rows.values())))
    undecodable = rows.pop("_undecodable", [None] * count)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)).with_columns(
        pl.Series("_row", range(1, count + 1), pl.Int64), pl.Series("_undecodable", undecodable, UNDECODABLE)
    )
    return apply_columns(frame, mapping, CONTEXT, GENERIC)


def problems(frame: pl.DataFrame) -> list[list[tuple[str, str]]]:
    """Reason and column of each problem of each row."""
    return [[(problem["reason"], problem["column"]) for problem in found] for found in frame["_problems"].to_list()]


def test_columns_are_added_beside_legacy_ones_of_the_same_name() -> None:
    frame = apply(
        {"type": ["a", None]}, {"type": {"from": "type"}, "kind": {"constant": "x"}, "none": {"constant": None}}
    )
    assert frame.columns == ["type", "_row", "_undecodable", ":type", ":kind", ":none", "_problems", "_coercions"]
    assert frame[":type"].to_list() == ["a", None]
    assert frame[":kind"].to_list() == ["x", "x"]
    assert frame[":none"].to_list() == [None, None]
    assert problems(frame) == [[], []]
    assert frame["_coercions"].to_list() == [[], []]
    assert frame.schema["_problems"] == pl.List(
        pl.Struct({"reason": pl.String, "column": pl.String, "detail": pl.String})
    )
    assert frame.schema["_coercions"] == pl.List(pl.String)


def test_an_id_without_a_match_is_an_orphan() -> None:
    """Without a match is also: no integer, NULL, and an id of which the target has no row."""
    frame = apply(
        {"owner": ["1", "2.0", "02", "3", "4", "x", None]}, {"keeper_id": {"from": "owner", "crosswalk": "keeper"}}
    )
    assert frame[":keeper_id"].to_list() == [100, 200, 200, None, None, None, None]
    orphan = [("orphan_reference", "owner")]
    assert problems(frame) == [[], [], [], orphan, orphan, orphan, orphan]
    assert frame["_problems"].to_list()[4][0]["detail"] == "4 has no match in the crosswalk keeper"
    assert frame.height == 7


def test_an_id_without_a_match_may_be_null_and_counted() -> None:
    column = {"from": "owner", "crosswalk": "keeper", "missing": "null"}
    frame = apply({"owner": ["1", "4", None]}, {"keeper_id": column})
    assert frame[":keeper_id"].to_list() == [100, None, None]
    assert problems(frame) == [[], [], []]
    assert frame["_coercions"].to_list() == [[], ["keeper_not_found"], []]


def test_null_may_stay_null_where_a_missing_id_rejects() -> None:
    column = {"from": "owner", "crosswalk": "keeper", "allow_null": True}
    frame = apply({"owner": ["1", "4", None]}, {"keeper_id": column})
    assert frame[":keeper_id"].to_list() == [100, None, None]
    assert problems(frame) == [[], [("orphan_reference", "owner")], []]


def test_a_value_map_compares_trimmed_and_without_case() -> None:
    columns = {
        "species": {"from": "kind", "value_map": "species", "output": "species"},
        "tame": {"from": "kind", "value_map": "species", "output": "tame"},
    }
    frame = apply({"kind": ["CAT  ", "Dog", "", None, "z" * 50]}, columns)
    assert frame[":species"].to_list() == ["Felis", None, None, None, None]
    assert frame[":tame"].to_list() == [True, False, None, None, None]
    unmapped = [("unmapped_value", "kind")] * 2
    assert problems(frame) == [[], [], unmapped, unmapped, unmapped]
    assert frame["_problems"].to_list()[3][0]["detail"] == "NULL is not listed in species.csv"
    assert frame["_problems"].to_list()[4][0]["detail"] == "z" * 40 + " is not listed in species.csv"


def test_a_value_map_may_ask_for_the_exact_text() -> None:
    column = {"from": "kind", "value_map": "species", "output": "species", "exact": True}
    frame = apply({"kind": [" Cat", " cat", "Cat"]}, {"species": column})
    assert frame[":species"].to_list() == ["Felis", None, None]
    assert problems(frame) == [[], [("unmapped_value", "kind")], [("unmapped_value", "kind")]]


@pytest.mark.parametrize(
    ("missing", "values", "coercions"),
    [
        ("null", ["Felis", None, None], [[], ["species_not_listed"], []]),
        ("keep", ["Felis", "Cow ", None], [[], [], []]),
    ],
)
def test_what_a_value_map_does_not_list_may_be_null_or_kept(
    missing: str, values: list[str | None], coercions: list[list[str]]
) -> None:
    column = {"from": "kind", "value_map": "species", "output": "species", "missing": missing}
    frame = apply({"kind": ["cat", "Cow ", None]}, {"species": column})
    assert frame[":species"].to_list() == values
    assert problems(frame) == [[], [], []]
    assert frame["_coercions"].to_list() == coercions


def test_the_shaped_column_counts_and_the_legacy_one_is_blamed() -> None:
    column = {"from": ["hold", "other.hold"], "input": "_effective", "value_map": "species", "output": "tame"}
    frame = apply({"hold": ["cat", "cat"], "_effective": ["dog", "cow"]}, {"is_active": column})
    assert frame[":is_active"].to_list() == [False, None]
    assert problems(frame) == [[], [("unmapped_value", "hold")]]


def test_a_column_of_another_option_stays_null_and_rejects_nothing() -> None:
    def column(option: str) -> dict[str, Any]:
        return {"from": "n", "transform": "integer", "when": {"decision": "shape", "option": option}}

    frame = apply({"n": ["1", "x"]}, {"round": column("round"), "flat": column("flat")})
    assert frame[":round"].to_list() == [1, None]
    assert frame[":flat"].to_list() == [None, None]
    assert problems(frame) == [[], [("unparseable", "n")]]


def test_what_a_function_fills_is_left_to_it() -> None:
    frame = apply({"n": ["1"]}, {"a": {"from": "n", "by": "expand"}, "b": {"from": "n", "transform": "integer"}})
    assert ":a" not in frame.columns
    assert frame[":b"].to_list() == [1]


def test_all_problems_of_a_row_are_told() -> None:
    frame = apply(
        {"n": ["x"], "owner": ["9"], "kind": ["?"]},
        {
            "n": {"from": "n", "transform": "integer"},
            "keeper_id": {"from": "owner", "crosswalk": "keeper"},
            "species": {"from": "kind", "value_map": "species", "output": "species"},
        },
    )
    assert problems(frame) == [[("unparseable", "n"), ("orphan_reference", "owner"), ("unmapped_value", "kind")]]


def test_a_nul_or_undecodable_bytes_reject_only_where_the_text_is_written() -> None:
    rows: dict[str, list[Any]] = {
        "name": ["ok", "a\x00b", "caf\\xE9", "ok", None],
        "number": ["1", "2", "3", "4\x00", "5"],
        "code": ["c", "c", "c", "c\x00", "c"],
        "_undecodable": [
            None,
            None,
            [{"column": "name", "bytes": b"caf\xe9"}],
            [{"column": "code", "bytes": b"\xff"}],
            None,
        ],
    }
    columns = {
        "name": {"from": "name"},
        "both": {"from": ["name", "number"], "transform": "joined"},
        "number": {"from": "number", "transform": "integer"},
    }
    frame = apply(rows, columns, {"code": {"from": "code"}})
    assert problems(frame) == [
        [],
        [("unparseable", "name"), ("unparseable", "name, number")],
        [("unparseable", "name"), ("unparseable", "name, number")],
        [("unparseable", "name, number"), ("unparseable", "number")],
        [],
    ]
    assert frame[":code"].to_list() == rows["code"]


def test_bytes_are_written_though_they_are_no_text_or_hold_a_nul() -> None:
    frame = apply(
        {
            "picture": ["\\xff", "a\x00b", None],
            "_undecodable": [[{"column": "picture", "bytes": b"\xff"}], None, None],
        },
        {
            "picture": {"from": ["picture"], "transform": "bytes"},
            "caption": {"from": ["picture"], "transform": "text"},
        },
    )
    assert frame[":picture"].to_list() == ["\\xff", "\\x610062", None]
    assert [{column for _, column in found} for found in problems(frame)] == [{"picture"}, {"picture"}, set()]
    alone = apply(
        {"picture": ["\\xff", "a\x00b"], "_undecodable": [[{"column": "picture", "bytes": b"\xff"}], None]},
        {"picture": {"from": ["picture"], "transform": "bytes"}},
    )
    assert problems(alone) == [[], []]


def test_a_helper_that_is_written_must_be_text_as_a_column_must() -> None:
    rows: dict[str, list[Any]] = {"label": ["ok", "a\x00b"]}
    helpers = {"label": {"from": "label", "transform": "text", "written": True}}
    assert problems(apply(rows, {}, helpers)) == [[], [("unparseable", "label")]]


def test_a_constant_of_a_column_that_no_plan_knows_has_its_type() -> None:
    columns = {
        "since": {"constant": "2026-01-02T03:04:05+01:00", "type": "timestamptz"},
        "size": {"constant": 3, "type": "integer"},
        "labels": {"constant": "{}", "type": "jsonb"},
    }
    frame = apply({"n": ["1"]}, columns)
    assert frame.select(":since", ":size", ":labels").row(0) == (datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC), 3, "{}")


@given(
    st.lists(st.text(alphabet="abÉé 1", min_size=1, max_size=4).filter(str.strip), max_size=5),
    st.lists(st.one_of(st.none(), st.text(alphabet="abÉéE 1", max_size=5)), min_size=1, max_size=6),
)
def test_value_maps_look_up_as_a_dict_of_folded_keys_does(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], values: list[str | None]
) -> None:
    listed = {key.strip().lower(): (key, f"is {key}") for key in reversed(keys)}
    path: Path = tmp_path_factory.mktemp("maps") / "species.csv"
    path.write_text("kind,species\n" + "".join(f'"{key}","{value}"\n' for key, value in listed.values()))
    findings = Findings()
    value_map = read_value_map(path, findings)
    assert findings.errors == []
    assert value_map is not None
    context = TransformContext({}, {"species": value_map.frame}, {}, "UTC", datetime(2026, 1, 1, tzinfo=UTC))
    mapping = SourceMapping.model_validate(
        {"columns": {"species": {"from": "kind", "value_map": "species", "output": "species"}}}
    )
    frame = apply_columns(pl.DataFrame({"kind": values}, schema={"kind": pl.String}), mapping, context, GENERIC)
    expected = [listed.get(value.strip().lower(), (None, None))[1] if value is not None else None for value in values]
    assert frame[":species"].to_list() == expected
    assert [bool(found) for found in frame["_problems"].to_list()] == [value is None for value in expected]


@pytest.mark.parametrize(
    ("module", "reader", "column"),
    [
        (times, "iso_parts", {"transform": "instant"}),
        (times, "iso_parts", {"transform": "local_timestamp"}),
        (keys, "uuids_of", {"transform": "key_of", "with": {"namespace": str(NAMESPACE_DNS)}}),
        (binary, "uuids_of", {"transform": "uuid5", "with": {"namespace": "dns"}}),
    ],
)
def test_what_python_reads_of_a_column_is_read_once(
    monkeypatch: pytest.MonkeyPatch, module: Any, reader: str, column: dict[str, Any]
) -> None:
    """Value, problems and coercions are an expression each; of 300,000 rows each reading costs half a second."""
    read, asked = getattr(module, reader), []

    def counting(texts: pl.Series, **settings: Any) -> pl.Series:
        asked.append(len(texts))
        result: pl.Series = read(texts, **settings)
        return result

    monkeypatch.setattr(module, reader, counting)
    rows = {"at": ["2024-01-02 03:04:05.678", "2024-01-02 03:04:05+01", "never", None]}
    apply(rows, {"seen": {"from": "at", **column}})
    assert [count for count in asked if count] == [4]


def test_a_column_that_no_function_made_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"mapping of 'kind' reads 'shapd'.*\n?.*'shaped'"):
        apply({"name": ["a"], "shaped": ["b"]}, {"kind": {"from": "name", "input": "shapd"}})
