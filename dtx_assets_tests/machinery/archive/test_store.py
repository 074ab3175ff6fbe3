"""Archives, in a directory and on a real S3 server: equal to what was landed, whole or not at all, faults found.

What an archive holds is read by a parser of its own here, by Python's, Polars' and DuckDB's, and by the legacy reader.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from csv import reader as python_reader
from itertools import count
from pathlib import Path

import bson
import duckdb
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.archive import store as archive_module
from dtx_assets.machinery.archive.store import archive_table, archives, differences, first_difference
from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake, Manifest, open_archive
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.landing import batches_of_rows, land_table
from dtx_assets_tests.patience import PATIENCE

Row = Sequence[bytes | None]

COLUMNS = ["Property Code", "#", 'it\'s 50%, or "more"', "a/b?\nc", "Größe", "größe", "\\N"]
UGLY: list[Row] = [
    [None, b"", b"\\N", b"NULL", b" ", b'"', b'""'],
    [b"", None, None, None, None, None, None],
    [b'"\\N"', b'say "hi", you', b"line\nbreak", b"carriage\rreturn", b"both\r\n", b",", b"\n"],
    [b"a\x00b", b"\x00", b"caf\xe9", b"\xff\xfe", "é€𝄞".encode(), b"\\xe9", b"\\"],
    [b" lead", b"trail ", b"\ttab", b"'", b"=1+1", b"0012", b"1e5"],
    [b" lead", b"trail ", b"\ttab", b"'", b"=1+1", b"0012", b"1e5"],
    [b"\xef\xbb\xbf", b"x" * 100_000, b"a" + b'"' * 9, b"\\n", b"null", b"NaN", b""],
]
TEXTS = ["a", "", "\\N", "NULL", 'say "hi"', "x\ny", "é"]


class Place:
    """A lake, an archive, and tables that are landed in the first and archived in the second."""

    def __init__(self, directory: Path, archive_url: str) -> None:
        self.directory = directory
        self.lake, self.archive = Lake(str(directory / "lake")), open_archive(archive_url)
        self._numbers = count()

    def land(self, rows: Sequence[Row], columns: Sequence[str], dialect: str = "database") -> Manifest:
        facts = {"dialect": dialect, "source": "a test"}
        return land_table(
            self.lake, ("toy", "legacy", "t"), "r", columns, batches_of_rows(rows, columns), lambda _landed: facts
        )

    def make(self, run_id: str = "r") -> Manifest:
        return archive_table(self.lake, self.archive, "toy", "t", run_id)

    def of(self, rows: Sequence[Row], columns: Sequence[str] = COLUMNS, dialect: str = "database") -> Manifest:
        self.land(rows, columns, dialect)
        return self.make()

    def differences(self) -> list[str]:
        return differences(self.lake, self.archive, "toy", "t")

    def path(self, stored: Manifest, file: str) -> str:
        return "/".join([*stored.key, stored.version, file])

    def content(self, stored: Manifest, file: str) -> bytes:
        return bytes(obstore.get(self.archive.store, self.path(stored, file)).bytes())

    def put(self, stored: Manifest, file: str, content: bytes) -> None:
        obstore.put(self.archive.store, self.path(stored, file), content)

    def csv(self, stored: Manifest) -> bytes:
        return gzip.decompress(self.content(stored, "t.csv.gz"))

    def parquet(self, stored: Manifest, file: str = "t.parquet") -> pl.DataFrame:
        return pl.read_parquet(self.content(stored, file))

    def files(self) -> list[str]:
        return sorted(entry["path"] for page in obstore.list(self.archive.store) for entry in page)


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Place(tmp_path, str(tmp_path / "archive"))
    return Place(tmp_path, f"s3://{request.getfixturevalue('s3_bucket')}/some/archive")


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(tmp_path, str(tmp_path / "archive"))


def parsed(content: bytes) -> list[list[bytes | None]]:
    r"""RFC 4180, byte by byte; a field that is `\N` without quotes is None."""
    records: list[list[bytes | None]] = [[]]
    at = 0
    while at < len(content):
        if content[at : at + 1] == b'"':
            end = content.index(b'"', at + 1)
            while content[end + 1 : end + 2] == b'"':
                end = content.index(b'"', end + 2)
            records[-1].append(content[at + 1 : end].replace(b'""', b'"'))
            at = end + 1
        else:
            end = min(found for mark in b",\n" if (found := content.find(mark, at)) >= 0)
            field = content[at:end]
            assert not set(field) & set(b'"\r')
            records[-1].append(None if field == b"\\N" else field)
            at = end
        if content[at : at + 1] == b"\n":
            records.append([])
        else:
            assert content[at : at + 1] == b","
        at += 1
    assert records.pop() == []
    return records


def as_rows(rows: Sequence[Row]) -> list[list[bytes | None]]:
    return [list(row) for row in rows]


# --- what is written --------------------------------------------------------------------------------------------------


def test_both_files_hold_the_rows_as_they_came(place):
    stored = place.of(UGLY)
    header, *rows = parsed(place.csv(stored))
    assert header == [name.encode() for name in COLUMNS]
    assert rows == as_rows(UGLY)
    copy = place.parquet(stored)
    assert copy.columns == COLUMNS
    assert copy.rows() == [
        tuple(None if value is None else value.decode(errors="backslashreplace") for value in row) for row in UGLY
    ]
    lost = place.parquet(stored, "t.undecodable.parquet")
    assert lost.rows() == [(4, COLUMNS[2], b"caf\xe9"), (4, COLUMNS[3], b"\xff\xfe")]
    assert place.differences() == []


def test_the_manifest_has_rows_columns_checksums_and_the_time(place):
    landed = place.land(UGLY, COLUMNS)
    stored = place.make("run 7")
    facts = json.loads(bytes(obstore.get(place.archive.store, "toy/t/manifest.json").bytes()))
    assert facts["run_id"] == "run 7"
    assert facts["metadata"]["rows"] == len(UGLY)
    assert facts["metadata"]["columns"] == COLUMNS
    assert facts["metadata"]["extracted_at"] == landed.metadata["extracted_at"]
    assert facts["metadata"]["undecodable_values"] == 2
    assert set(facts["metadata"]["sha256"]) == {"t.csv.gz", "t.parquet", "t.undecodable.parquet"}
    for name, digest in facts["metadata"]["sha256"].items():
        assert hashlib.sha256(place.content(stored, name)).hexdigest() == digest
    assert r"NULL is \N without quotes" in facts["metadata"]["how_to_read"]
    assert "2 values are not UTF-8" in facts["metadata"]["how_to_read"]


@pytest.mark.parametrize("values", [[], [None], [b""], [b"\\N"], [None, b"", None, b"\n", b"a"]])
def test_a_table_of_one_column(local, values):
    rows = [[value] for value in values]
    stored = local.of(rows, ["customer_id"])
    header, *found = parsed(local.csv(stored))
    assert (header, found) == ([b"customer_id"], as_rows(rows))
    records = list(python_reader(io.StringIO(local.csv(stored).decode(), newline="")))
    assert [len(record) for record in records] == [1] * (len(rows) + 1), "an empty line would be no record to many"
    assert local.parquet(stored).rows() == [(None if value is None else value.decode(),) for value in values]
    assert local.differences() == []


def test_what_came_from_a_csv_is_the_text_that_stood_there(local):
    export = local.directory / "export"
    export.mkdir()
    lines = [
        'Tenant ID,a b,"x,y"', r"\N,NULL,", r'"\N","NULL",""', '"two\nlines", blank ,"say ""hi"""', ",,", ",,", "1,2,3",
    ]  # fmt: skip
    (export / "t.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode() + b"caf\xe9,\x00,end")
    land(local, export)
    stored = local.make()
    with (export / "t.csv").open(encoding="latin-1", newline="") as stream:
        assert list(python_reader(io.StringIO(local.csv(stored).decode("latin-1"), newline=""))) == list(
            python_reader(stream)
        )
    assert local.parquet(stored).head(2).rows() == [("\\N", "NULL", "")] * 2
    assert "the text that stood in the source" in stored.metadata["how_to_read"]
    assert local.differences() == []


def test_the_legacy_reader_takes_the_archive_of_a_csv_for_the_same_table(local):
    """An archive can be migrated from: give its CSV, unpacked, back to the reader, and the lake holds the same."""
    export, again = local.directory / "export", local.directory / "again"
    export.mkdir()
    again.mkdir()
    (export / "t.csv").write_bytes(b'\xef\xbb\xbfid,"a,b"\n1,"x\ny"\n\\N,caf\xe9\n"",""\n')
    land(local, export)
    before = local.lake.scan(("toy", "legacy", "t")).collect()
    (again / "t.csv").write_bytes(local.csv(local.make()))
    land(local, again)
    assert local.lake.scan(("toy", "legacy", "t")).collect().equals(before)


def land(place: Place, export: Path) -> None:
    with open_source(str(export)) as source:
        source.extract(LegacyTable("t", "area", ()), place.lake, ("toy", "legacy", "t"), "r")


def test_common_readers_keep_null_and_the_empty_string_apart(local):
    rows = [[text.encode(), None, b""] for text in TEXTS]
    stored = local.of(rows, ["a b", "nothing", "empty"])
    expected = [(text, None, "") for text in TEXTS]
    packed = Path(local.archive.location(stored, "t.csv.gz"))
    options = "header = true, all_varchar = true, nullstr = '\\N', allow_quoted_nulls = false"
    read = duckdb.sql(f"FROM read_csv('{packed}', {options})")
    assert (read.columns, read.fetchall()) == (["a b", "nothing", "empty"], expected)
    assert duckdb.read_parquet(str(packed.with_name("t.parquet"))).fetchall() == expected
    with gzip.open(packed, "rt", newline="") as stream:
        assert list(python_reader(stream))[1:] == [[text, "\\N", ""] for text in TEXTS]
    polars = pl.read_csv(packed, infer_schema=False)
    assert polars.rows() == [(text, "\\N", "") for text in TEXTS]


def test_equal_rows_make_equal_files(tmp_path):
    places = [Place(tmp_path / name, str(tmp_path / name / "archive")) for name in ("a", "b")]
    first, second = (place.of(UGLY) for place in places)
    assert first.metadata["sha256"] == second.metadata["sha256"]


def test_rows_in_many_batches_and_a_long_field(local):
    rows = [[b"%d" % number, b"x" * (number % 7)] for number in range(120_000)]
    rows[60_000] = [b"long", b'"' + b"many lines\n" * 2_000_000]
    stored = local.of(rows, ["id", "text"])
    assert parsed(local.csv(stored))[1:] == rows
    assert pq.ParquetFile(local.archive.location(stored, "t.parquet")).num_row_groups > 2
    assert local.differences() == []


cell = st.one_of(
    st.none(),
    st.sampled_from([b"", b"\\N", b"NULL", b'"', b",", b"\n", b"\r", b"\r\n", b"\x00", b"\xff"]),
    st.binary(max_size=6),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=60)
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), max_size=12)))
def test_any_rows_read_back(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("any")
    place = Place(directory, str(directory / "archive"))
    columns = [f"c{number}" for number in range(len(rows[0]) if rows else 2)]
    stored = place.of(rows, columns)
    assert parsed(place.csv(stored))[1:] == rows
    assert place.differences() == []


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_an_unchanged_table_is_not_written_again_and_a_changed_one_is(place):
    first = place.of(UGLY)
    listed = place.files()
    place.land(UGLY, COLUMNS)
    assert place.make("run 2") == first
    assert place.files() == listed
    changed = place.of(UGLY[1:])
    assert changed.version != first.version
    assert parsed(place.csv(changed))[1:] == as_rows(UGLY[1:])
    assert parsed(place.csv(first))[1:] == as_rows(UGLY), "whoever still reads the one before can go on"


def test_the_same_texts_from_a_source_of_another_kind_are_written_again(local):
    rows = [[b"\\N"]]
    assert local.csv(local.of(rows, ["v"], "database")) == b'v\n"\\N"\n'
    assert local.csv(local.of(rows, ["v"], "csv")) == b"v\n\\N\n"


def test_an_archive_that_lost_a_file_is_written_again(place):
    first = place.of(UGLY)
    obstore.delete(place.archive.store, place.path(first, "t.parquet"))
    assert place.differences() == ["a file is missing, or has another length than it was written with"]
    assert place.make().version != first.version
    assert place.differences() == []


@pytest.mark.parametrize("fault", ["a quote that is not doubled", "a store that gives other rows back"])
def test_what_does_not_read_back_is_not_put_in_place(place, monkeypatch, fault):
    first = place.of(UGLY)
    listed = place.files()
    place.land([[b'secret, "a"', b"c"]], ["x", "y"])

    def unquoted(values: pa.Array, *, marks_null: bool) -> pa.Array:
        return values

    @contextmanager
    def other_rows(lake: Lake, key: Sequence[str], version: str, file: str) -> Iterator[Path]:
        with local_file(lake, key, version, file) as path:
            if lake is place.archive and file == "t.parquet":
                pq.write_table(pa.table({"x": ['secret "b"'], "y": ["c"]}), path)
            yield path

    local_file = Lake.local_file
    with monkeypatch.context() as patch:
        if fault.startswith("a quote"):
            patch.setattr(archive_module, "csv_fields", unquoted)
        else:
            patch.setattr(Lake, "local_file", other_rows)
        with pytest.raises(StructureError, match="t does not read back as it was landed") as caught:
            place.make()
    assert ("t.csv.gz" if fault.startswith("a quote") else "t.parquet differs in record 1") in str(caught.value)
    assert "secret" not in str(caught.value)
    assert place.files() == listed
    assert place.archive.manifest(("toy", "t")) == first
    place.make()
    assert place.differences() == []


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from dtx_assets.machinery.archive import store as archive
    from dtx_assets.machinery.base.lake import Lake, open_archive

    real, calls = archive.{function}, iter(range(100))

    def killed(*values, **options):
        if next(calls) == {call}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*values, **options)

    archive.{function} = killed
    archive.archive_table(Lake(sys.argv[1]), open_archive(sys.argv[2]), "toy", "t", "killed")
"""


@pytest.mark.parametrize(("function", "call"), [("csv_records", 1), ("csv_records", 3), ("sha256", 0), ("sha256", 1)])
def test_a_kill_leaves_the_archive_that_was_there(place, function, call):
    first = place.of(UGLY)
    rows = [[b"%d" % number] for number in range(120_000)]
    place.land(rows, ["id"])
    script = textwrap.dedent(KILLED.format(function=function, call=call))
    arguments = [sys.executable, "-c", script, place.lake.url, place.archive.url]
    done = subprocess.run(
        arguments, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == -9, done.stderr
    assert place.archive.manifest(("toy", "t")) == first
    assert parsed(place.csv(first))[1:] == as_rows(UGLY)
    assert place.differences() == ["it is of another extraction than the one that is landed now"]
    place.make()
    assert place.differences() == []


def test_memory_does_not_grow_with_the_table(tmp_path):
    """300 MB of text in fields of 5 MB: what is held is a few of them."""
    place = Place(tmp_path, str(tmp_path / "archive"))
    field = b"some words, and more; " * 240_000
    place.land(([b"%d" % number, field] for number in range(60)), ["id", "body"])
    script = """
        import resource, sys
        from dtx_assets.machinery.archive import store as archive
        from dtx_assets.machinery.base.lake import Lake, open_archive

        lake, place = Lake(sys.argv[1]), open_archive(sys.argv[2])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        archive.archive_table(lake, place, "toy", "t", "r")
        assert archive.differences(lake, place, "toy", "t") == []
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), place.lake.url, place.archive.url]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert int(done.stdout) * 1024 < len(field) * 60 * 0.7


# --- the check --------------------------------------------------------------------------------------------------------


def repacked(content: bytes, old: bytes, new: bytes) -> bytes:
    plain = gzip.decompress(content)
    assert old in plain
    return gzip.compress(plain.replace(old, new), 5, mtime=0)


def test_the_check_finds_a_file_that_was_tampered_with(place):
    stored = place.of([[b"1", b"one"], [b"2", b"two"]], ["id", "text"])
    assert place.differences() == []
    good = place.content(stored, "t.csv.gz")
    place.put(stored, "t.csv.gz", good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    assert place.differences() == ["t.csv.gz is not what was written: its SHA-256 is another one"]
    place.put(stored, "t.csv.gz", good[:-1])
    assert place.differences() == ["a file is missing, or has another length than it was written with"]
    place.put(stored, "t.csv.gz", good)
    assert place.differences() == []


@pytest.mark.parametrize(
    ("file", "says"), [("t.csv.gz", "t.csv.gz differs in record 3"), ("t.parquet", "t.parquet differs in record 2")]
)
def test_the_check_finds_other_rows_under_matching_checksums(local, file, says):
    """Someone who changes a file and its manifest both is found all the same: the rows are compared."""
    stored = local.of([[b"1", b"one"], [b"2", b"two"]], ["id", "text"])
    if file == "t.csv.gz":
        content = repacked(local.content(stored, file), b"two", b"owt")
    else:
        buffer = io.BytesIO()
        pq.write_table(pa.table({"id": ["1", "2"], "text": ["one", "owt"]}), buffer)
        content = buffer.getvalue()
    local.put(stored, file, content)
    path = local.directory / "archive" / "toy" / "t" / "manifest.json"
    facts = json.loads(path.read_text())
    facts["metadata"]["sha256"][file] = hashlib.sha256(content).hexdigest()
    for entry in (entry for entries in facts["tables"].values() for entry in entries if entry["name"] == file):
        entry["bytes"] = len(content)
    path.write_text(json.dumps(facts))
    assert local.differences() == [says]


@pytest.mark.parametrize("file", ["t.csv.gz", "t.parquet"])
def test_the_check_finds_a_file_that_is_none(local, file, monkeypatch):
    stored = local.of([[b"1"]], ["id"])
    local.put(stored, file, b"nonsense")
    monkeypatch.setattr(Lake, "is_complete", lambda *_: True)
    monkeypatch.setattr(archive_module, "sha256", lambda path: stored.metadata["sha256"][path.name])
    [said] = local.differences()
    assert said.startswith(f"{file} cannot be read")


def test_the_check_finds_an_archive_of_another_extraction_and_none_at_all(local):
    local.land(UGLY, COLUMNS)
    assert local.differences() == ["there is no archive"]
    local.make()
    local.land(UGLY[1:], COLUMNS)
    assert local.differences() == ["it is of another extraction than the one that is landed now"]


def test_archives_that_are_there(local):
    stored = local.of(UGLY)
    assert archives(local.archive, "toy", ["s", "t", "u"]) == {"t": stored}


def test_a_table_that_is_not_landed(local):
    with pytest.raises(StructureError, match="toy/legacy/t has not been materialised"):
        local.make()


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5), st.data())
def test_the_first_difference_of_two_streams(left, right, size, data):
    if data.draw(st.booleans()):
        right = left[: data.draw(st.integers(0, len(left)))] + right[:1]

    def batches(values: list[int], size: int) -> list[pa.RecordBatch]:
        parts = [values[at : at + size] for at in range(0, len(values), size)]
        return [pa.RecordBatch.from_arrays([pa.array(part, pa.int64())], ["v"]) for part in parts]

    pairs = enumerate(zip(left, right, strict=False), 1)
    expected = next((row for row, (one, other) in pairs if one != other), None)
    if expected is None and len(left) != len(right):
        expected = min(len(left), len(right)) + 1
    assert first_difference(batches(left, 3), batches(right, size)) == expected


def test_documents_are_archived_to_the_byte(local):
    """What a column shows of a document may be older types told anew; the document itself is there all the same."""
    export = local.directory / "export"
    export.mkdir()
    documents = [bson.encode({"_id": 1, "a": "é\0"}), b"\x0f\0\0\0\x10a\0\1\0\0\0\x06u\0\0"]
    documents.append(bson.encode({"a": "xy"}).replace(b"xy", b"\xff\xfe"))
    (export / "t.bson").write_bytes(b"".join(documents))
    land(local, export)
    stored = local.make()
    assert local.differences() == []
    header, *rows = parsed(local.csv(stored))
    place = header.index(b"_bson")
    assert [base64.b64decode(row[place] or b"") for row in rows] == documents
    assert [base64.b64decode(text) for text in local.parquet(stored)["_bson"]] == documents
    assert gzip.decompress(local.content(stored, "t.bson.gz")) == b"".join(documents)
    assert "the exact document in base64" in stored.metadata["how_to_read"]
    (export / "t.bson").unlink()
    lines = b'{"a": 1.10}\n{"b":"\xff"}\n{"a":1,"a":2}'
    (export / "t.ndjson").write_bytes(lines)
    land(local, export)
    header, *rows = parsed(local.csv(again := local.make()))
    assert b"\n".join(row[header.index(b"_line")] or b"" for row in rows) == lines
    assert gzip.decompress(local.content(again, "t.bson.gz")) == bson.encode({"a": 1.1})
