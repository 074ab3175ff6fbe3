"""SQL over an archive: it answers about the one table, and neither reads nor writes anything else."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from dtx_assets.machinery.archive.query import ask
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets_tests.machinery.archive.test_store import Place

ROWS = [[b"1", b"one"], [b"2", None], [b"10", b""], [b"3", b"caf\xe9"]]


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Place(tmp_path, str(tmp_path / "it's an archive"))
    return Place(tmp_path, f"s3://{request.getfixturevalue('s3_bucket')}/some/archive")


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(tmp_path, str(tmp_path / "it's an archive"))


def answer(place: Place, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
    stored = place.archive.require(("toy", "t"))
    with ask(place.archive, stored, sql) as answered:
        return answered.columns, list(answered.rows)


def test_the_table_has_its_own_name_and_its_columns_theirs(place):
    place.of(ROWS, ["Property Code", "#"])
    assert answer(place, "SELECT * FROM t") == (
        ["Property Code", "#"],
        [("1", "one"), ("2", None), ("10", ""), ("3", "caf\\xe9")],
    )
    assert answer(place, 'WITH n AS (SELECT "Property Code"::int AS c FROM t) SELECT max(c) FROM n')[1] == [(10,)]
    assert answer(place, "FROM t_undecodable") == (["row", "column", "bytes"], [(4, "#", b"caf\xe9")])
    assert [name for name, *_ in answer(place, "DESCRIBE t")[1]] == ["Property Code", "#"]
    assert answer(place, 'SELECT count(*) FROM t WHERE "#" IS NULL;')[1] == [(1,)]


def test_results_of_any_type_and_names_that_repeat(local):
    local.of(ROWS, ["a", "b"])
    columns, rows = answer(local, "SELECT 1 a, 2 a, 3 a_2, DATE '2020-02-29' d, 1.50 e, NULL f, [1, 2] g")
    assert columns == ["a", "a_2", "a_2_2", "d", "e", "f", "g"]
    assert rows == [(1, 2, 3, date(2020, 2, 29), Decimal("1.50"), None, [1, 2])]


def test_columns_that_differ_in_case_only(local):
    local.of([[b"1", b"2"]], ["Name", "name"])
    assert answer(local, "SELECT * FROM t")[1] == [("1", "2")]


@pytest.mark.parametrize(
    "columns",
    [
        ["Id", "id", "ID"],
        ["id", "Id", "id_1"],
        ["ID_1", "id", "ID"],
        ["a", "A", "A (column 2)", "a (column 1)"],
        ["\u00c9tat", "\u00e9tat", "x"],
        ["stra\u00dfe", "STRASSE", "Stra\u1e9ee"],
        ["k", "K", "\u212a"],
        ["caf\u00e9", "cafe\u0301", "Cafe\u0301"],
        ["\u0130", "i\u0307", "I", "i"],
        ["", "C1", "c1"],
        ["rowid", "RowId", "filename", "file_row_number"],
        ['a"b', 'A"b', "a b "],
    ],
)
def test_a_column_that_is_asked_for_by_its_name_is_that_one_or_none(local, columns):
    """DuckDB takes names that differ in case only for one, and calls the second one by a name that may be another's."""
    values = [f"value of {number}" for number in range(len(columns))]
    local.of([[value.encode() for value in values]], columns)
    names, rows = answer(local, "SELECT * FROM t")
    assert rows == [tuple(values)]
    assert len({name.casefold() for name in names}) == len(columns)
    for column, value, name in zip(columns, values, names, strict=True):
        asked, called = (f"""SELECT "{each.replace('"', '""')}" FROM t""" for each in (column, name))
        assert answer(local, called)[1] == [(value,)]
        if column != name:
            with pytest.raises(ConfigurationError) as refused:
                answer(local, asked)
            assert name in str(refused.value.remedy).replace('""', '"')


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "COPY t TO '{other}'",
        "COPY (SELECT 1) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW t",
        "ATTACH '{other}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "EXPORT DATABASE '{other}'",
        "SELECT * FROM query('COPY t TO ''{other}''')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "SELECT * FROM answer",
        "SELECT getenv('HOME')",
        "SELECT nothing FROM t",
        "SELEC",
        "SELECT CAST(b AS int) FROM t",
    ],
)
def test_anything_but_a_select_from_the_table_is_refused(local, sql):
    stored = local.of(ROWS, ["a", "b"])
    secret, other = local.directory / "secret.csv", local.directory / "other"
    secret.write_text("planted\nsecret\n")
    own = local.archive.location(stored, "t.parquet").replace("'", "''")
    with pytest.raises(ConfigurationError) as caught:
        answer(local, sql.format(other=other, own=own, secret=secret))
    assert caught.value.where == "SQL"
    assert "planted" not in str(caught.value)
    assert not other.exists()
    assert local.differences() == []


def test_the_archive_itself_is_not_touched_by_any_answer(place):
    place.of(ROWS, ["a", "b"])
    before = place.files()
    answer(place, "SELECT * FROM t ORDER BY a")
    assert place.files() == before
    assert place.differences() == []
