"""Bad CSV files: their form, their header, their rows."""

from functools import partial
from pathlib import Path

from dtx_assets_tests.bad_inputs.case import Case, Found, Refused, Taken
from dtx_assets_tests.bad_inputs.place import EXTRACT, KEYWORDS, PREPARE, Place

TITLE = "CSV files"
HEADER = "customer_id,keyword,replacement\n"
SOUND = [
    {"customer_id": "1001", "keyword": "GROUP", "replacement": "Centers"},
    {"customer_id": "1002", "keyword": "ITEM", "replacement": "Tenants"},
]
QUOTE_THEM = "quote fields that hold a comma, a quote or a line break, and export the table again"


def holds(content: str | bytes, table: str = "keyword"):
    return lambda place: place.write(table, content)


def refused(name: str, content: str | bytes, what: str, line: int, remedy: str) -> Refused:
    where = f"{{legacy}}/keyword.csv, line {line}"
    return Refused(name, EXTRACT, holds(content), 1, f"keyword: {what}", where, remedy)


def dialect_file(text: str):
    def plant(place: Place) -> None:
        path = place.directory / "dialect.yaml"
        path.write_text(text)
        place.set(LEGACY_DIALECT=path)

    return plant


def escaped_by_backslashes(place: Place) -> None:
    dialect_file('tables:\n  keyword: { escape: "\\\\" }\n')(place)
    place.write("keyword", HEADER + '1001,GROUP,"the \\"Centers\\""\n1002,ITEM,"C:\\\\two\\\nlines"\n')


def lands(*rows: tuple[str, str, str]):
    """Asserts that exactly these rows were landed."""
    expected = [dict(zip(("customer_id", "keyword", "replacement"), row, strict=True)) for row in rows]

    def check(place: Place) -> None:
        assert place.landed() == expected

    return check


def lands_soundly(place: Place) -> None:
    assert place.landed() == SOUND


def letters_of_clock_changes(place: Place) -> None:
    """In New York the first time came twice, and the second never."""
    place.set(LEGACY_TIMEZONE="America/New_York")
    times = ("2021-11-07 01:30:00", "2021-03-14 02:30:00", "2021-06-01 12:00:00")
    lines = (f"1001,coi,{letter},Hello,<p>{letter}</p>,{time}" for letter, time in zip("abc", times, strict=True))
    place.write("letter", "customer_id,type,selector,subject,letter_body,edit_time\n" + "\n".join(lines) + "\n")


def clock_changes_are_counted(place: Place) -> None:
    [entry] = place.lake.require(("dtx", "prepared", "EmailTemplate")).metadata["accounting"]
    assert entry["coerced"] == {"ambiguous_time": 1, "skipped_time": 1}
    letters = place.lake.scan(("dtx", "prepared", "EmailTemplate")).sort("name").collect()
    assert [f"{time:%m-%d %H:%M}" for time in letters["created"]] == ["11-07 05:30", "03-14 07:30", "06-01 16:00"]


def becomes(rejected: list[tuple[str, ...]], *prepared: tuple[str, str]):
    """Asserts what was rejected, with its reasons, and which keys and values were prepared."""

    def check(place: Place) -> None:
        assert place.rejected() == rejected
        assert place.prepared() == sorted(prepared)

    return check


def remove(place: Place) -> None:
    (place.legacy / "keyword.csv").unlink()


def make_a_directory(place: Place) -> None:
    remove(place)
    (place.legacy / "keyword.csv").mkdir()


def change_while_it_is_read(place: Place) -> None:
    file = place.legacy / "keyword.csv"
    file.write_text(HEADER + "1001,GROUP,Centers\n" * 60_000)
    place.during("extract keyword", partial(append, file))


def append(file: Path) -> None:
    with file.open("a") as stream:
        stream.write("1002,LATE,row\n")


def many_columns(place: Place) -> None:
    names = ["user_id", "session_id", "customer_id", "start_time", "end_time", *(f"extra {n}" for n in range(3_000))]
    place.write("work_log", ",".join(names) + "\n" + ",".join(str(n) for n in range(len(names))) + "\n")


def all_columns_landed(place: Place) -> None:
    [row] = place.landed("work_log")
    assert list(row.values()) == [str(n) for n in range(3_005)]


def large_field(place: Place) -> None:
    place.write("keyword", HEADER + f'1001,GROUP,"{"x" * (50 << 20)}"\n')


def large_field_landed(place: Place) -> None:
    [row] = place.landed()
    assert row["replacement"] == "x" * (50 << 20)


def empty_table(place: Place) -> None:
    assert place.landed() == []
    assert place.prepared() == []


def keyword_by_keyword(place: Place) -> None:
    assert place.landed()[0]["phase"] == "x"
    assert place.prepared() == [("GROUP", "Centers")]


CASES: tuple[Case, ...] = (
    refused(
        "a row with too few fields",
        HEADER + "1001,GROUP,Centers\n1002,PRIVATE\n",
        "a row of 2 fields, where the header has 3",
        3,
        QUOTE_THEM,
    ),
    refused(
        "a row with too many fields (a comma that is not quoted)",
        HEADER + "1001,GROUP,Centers, and more\n",
        "a row of 4 fields, where the header has 3",
        2,
        QUOTE_THEM,
    ),
    refused(
        "semicolons", KEYWORDS.replace(",", ";"), "its fields are separated by semicolons", 1, "export it with commas"
    ),
    refused("tabs", KEYWORDS.replace(",", "\t"), "its fields are separated by tabs", 1, "export it with commas"),
    refused("bars", KEYWORDS.replace(",", "|"), "its fields are separated by bars", 1, "export it with commas"),
    refused("a zero-byte file", b"", "the file is empty: it has no header line", 1, "export it with the column names"),
    refused(
        "two columns of one name",
        "customer_id,keyword,keyword\n1,a,b\n",
        "two columns are called keyword",
        1,
        "rename one in the export",
    ),
    refused(
        "a column without a name",
        "customer_id,keyword,\n1,a,b\n",
        "column 3 has no name",
        1,
        "name every column in the header",
    ),
    refused("UTF-16", KEYWORDS.encode("utf-16"), "the file is UTF-16", 1, "export it as UTF-8"),
    refused(
        "a column name in latin-1",
        "customer_id,mot_clé,replacement\n".encode("latin-1"),
        "a column name is not UTF-8",
        1,
        "export the table as UTF-8",
    ),
    refused(
        "a quote that is never closed",
        HEADER + '1001,GROUP,"Centers\n1002,ITEM,PRIVATE\n',
        "a quote is opened and never closed, in the record that starts here",
        2,
        'write a quote within a quoted field as ""',
    ),
    refused(
        "a gzip file called .csv",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        "the file is compressed (gzip)",
        1,
        "unpack it",
    ),
    refused(
        "a workbook called .csv",
        b"PK\x03\x04\x14\x00\x06\x00",
        "the file is a workbook or another zip archive",
        1,
        "export it as CSV",
    ),
    refused(
        "a log-in page called .csv",
        "<!DOCTYPE html>\n<html><body>Please sign in, first</body></html>\n",
        "the file is a page of HTML or XML",
        1,
        "download the export itself",
    ),
    refused(
        "quotes that are escaped by backslashes (MySQL's INTO OUTFILE)",
        HEADER + '1001,GROUP,"the \\"Centers\\""\n',
        "text stands after a closing quote, and a backslash before it: quotes are escaped by backslashes",
        2,
        'say that its quotes are escaped by backslashes: `escape: "\\\\"` in its dialect',
    ),
    refused(
        "line ends of two kinds",
        HEADER + "1001,GROUP,Centers\r\n",
        "a line ends in CRLF, where the first one ends in LF",
        2,
        "let all lines end in LF or all in CRLF",
    ),
    refused(
        "parts that were joined with their header lines",
        KEYWORDS + KEYWORDS,
        "the header line comes again among the rows, as where files were joined",
        4,
        "join the parts without their header lines",
    ),
    refused(
        "UTF-16 without a byte-order mark",
        KEYWORDS.encode("utf-16-le"),
        "the file is UTF-16-LE without a byte-order mark",
        1,
        "export it as UTF-8",
    ),
    refused(
        "Excel's `sep=` line",
        "sep=,\n" + KEYWORDS,
        "the file begins with Excel's line sep=,",
        1,
        "take that line away",
    ),
    refused("Parquet called .csv", b"PAR1\x15\x04\x15", "the file is Parquet", 1, "export the table as CSV"),
    refused(
        "a mysqldump called .csv",
        "-- MySQL dump 10.13  Distrib 8.0\n--\n",
        "the file is a script of SQL",
        1,
        "restore it, and read that database",
    ),
    refused(
        "a log called .csv",
        "2026-01-01 12:00:00,123 INFO started\n",
        "the file begins with a time or a level: it is a log, or has no header line",
        1,
        "export it with the column names",
    ),
    Refused(
        "a carriage return in a field that is not quoted",
        ("run", "--all", "--select", "legacy/prepay_so_list"),
        holds(b'customer_id\n"1001\r2"\n3\r4\n', "prepay_so_list"),
        1,
        "a carriage return stands in a field that is not quoted",
        "{legacy}/prepay_so_list.csv, line 3",
        "quote fields that hold a line break",
    ),
    Refused(
        "no file for a table",
        EXTRACT,
        remove,
        1,
        "the table keyword is missing",
        "{legacy}/keyword.csv",
        "the tables that are there: crosswalk_account",
    ),
    Refused(
        "a directory where the file should be",
        EXTRACT,
        make_a_directory,
        1,
        "the table keyword is missing",
        "{legacy}/keyword.csv",
        "export it to there",
    ),
    Refused(
        "no such export directory",
        EXTRACT,
        lambda place: place.set(LEGACY_URL=place.directory / "nowhere"),
        1,
        "there is no such directory of CSV files",
        "{directory}/nowhere",
        "correct the URL, or mount the directory",
    ),
    Refused(
        "a column with a name that the lake needs",
        EXTRACT,
        holds("customer_id,keyword,replacement,_row\n1,a,b,c\n"),
        1,
        "keyword has a column called _row",
        "keyword._row",
        "rename the column in the export",
    ),
    Refused(
        "the export goes on while it is read",
        EXTRACT,
        change_while_it_is_read,
        1,
        "keyword: the file changed while it was read",
        "{legacy}/keyword.csv",
        "run again when the export is complete",
    ),
    Refused(
        "no header line",
        PREPARE,
        holds(KEYWORDS.removeprefix(HEADER)),
        1,
        "keyword lacks the required columns customer_id, keyword, replacement",
        "{legacy}/keyword.csv",
        "export the table whole; it has the columns 1001, GROUP, Centers",
        lands=True,
    ),
    Refused(
        "a required column missing",
        PREPARE,
        holds("customer_id,keyword\n1001,GROUP\n"),
        1,
        "keyword lacks the required column replacement",
        "{legacy}/keyword.csv",
        "export the table whole",
        lands=True,
    ),
    Refused(
        "a column renamed",
        PREPARE,
        holds(KEYWORDS.replace("replacement", "Replacement")),
        1,
        "keyword lacks the required column replacement",
        "{legacy}/keyword.csv",
        "it has the columns customer_id, keyword, Replacement",
        lands=True,
    ),
    Taken(
        "a byte-order mark",
        EXTRACT,
        holds(KEYWORDS.encode("utf-8-sig")),
        0,
        lands_soundly,
        "it is no part of the first name",
    ),
    Taken(
        "CRLF line ends", EXTRACT, holds(KEYWORDS.replace("\n", "\r\n")), 0, lands_soundly, "they end rows as LF does"
    ),
    Taken("CR line ends", EXTRACT, holds(KEYWORDS.replace("\n", "\r")), 0, lands_soundly, "CR throughout ends rows"),
    Taken(
        "no line end after the last row",
        EXTRACT,
        holds(KEYWORDS.removesuffix("\n")),
        0,
        lands_soundly,
        "the last row counts",
    ),
    Taken(
        "a quote in the middle of a field",
        EXTRACT,
        holds(HEADER + '1001,PIPE,5" pipe\n'),
        0,
        lands(("1001", "PIPE", '5" pipe')),
        "it is an ordinary character",
    ),
    Taken(
        "line breaks and commas in quoted fields",
        EXTRACT,
        holds(HEADER + '1001,GROUP,"one,\r\ntwo ""three"""\n'),
        0,
        lands(("1001", "GROUP", 'one,\r\ntwo "three"')),
        "they belong to the value",
    ),
    Taken(
        "escapes of MySQL, in an export whose dialect says so",
        EXTRACT,
        escaped_by_backslashes,
        0,
        lands(("1001", "GROUP", 'the "Centers"'), ("1002", "ITEM", "C:\\two\nlines")),
        "each means what MySQL meant",
    ),
    Refused(
        "a file of dialects with a misspelt key",
        EXTRACT,
        dialect_file('escapes: "\\\\"\n'),
        1,
        "unknown key 'escapes'",
        "{directory}/dialect.yaml:1",
        "did you mean 'escape'?",
    ),
    Taken("a field of 50 MB", EXTRACT, large_field, 0, large_field_landed, "it is read whole"),
    Taken("an empty table", PREPARE, holds(HEADER), 0, empty_table, "no rows are read, and the accounting says so"),
    Found(
        "thousands of columns",
        ("run", "--all", "--select", "legacy/work_log"),
        many_columns,
        0,
        "columns_are_as_planned",
        "legacy/work_log",
        3_000,
        all_columns_landed,
        "3,000 more columns than the plan counts; all are landed and archived",
        "WARN",
    ),
    Found(
        "local times that the clock showed twice, or never",
        ("run", "--all", "--select", "+prepared/EmailTemplate"),
        letters_of_clock_changes,
        0,
        "coercions_are_few",
        "prepared/EmailTemplate",
        2,
        clock_changes_are_counted,
        "each is migrated as the earlier time, or as the clock would have gone on, and counted by its kind",
        "WARN",
    ),
    Found(
        "an extra column",
        PREPARE,
        holds("customer_id,keyword,replacement,phase\n1001,GROUP,Centers,x\n"),
        0,
        "columns_are_as_planned",
        "legacy/keyword",
        1,
        keyword_by_keyword,
        "one column nobody named; it is landed and archived, and the others are migrated",
        "WARN",
    ),
    Found(
        "values in latin-1",
        PREPARE,
        holds(HEADER.encode() + b"1001,GROUP,caf\xe9\n1002,ITEM,Tenants\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("unparseable",)], ("ITEM", "Tenants")),
        "the row is rejected (`unparseable`), its bytes are kept, the others are migrated",
    ),
    Found(
        "half of a surrogate pair",
        PREPARE,
        holds(HEADER.encode() + b"1001,GROUP,\xed\xa0\x80\n1002,ITEM,Tenants\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("unparseable",)], ("ITEM", "Tenants")),
        "the row is rejected (`unparseable`), its bytes are kept, the others are migrated",
    ),
    Found(
        "a NUL in a value",
        PREPARE,
        holds(HEADER + "1001,GROUP,Cen\x00ters\n1002,ITEM,Tenants\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("unparseable",)], ("ITEM", "Tenants")),
        "the row is rejected (`unparseable`), the others are migrated",
    ),
    Found(
        "an id that is no number",
        PREPARE,
        holds(HEADER + "ten,GROUP,Centers\n1002,ITEM,Tenants\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("orphan_reference",)], ("ITEM", "Tenants")),
        "the row is rejected (`orphan_reference`), the others are migrated",
    ),
    Found(
        "one key twice, with other content",
        PREPARE,
        holds(HEADER + "1001,GROUP,Centers\n1001,GROUP,Malls\n"),
        3,
        "natural_key_is_unique",
        "legacy/keyword",
        1,
        becomes([("duplicate_key",)], ("GROUP", "Malls")),
        "the later row counts, the other is rejected (`duplicate_key`)",
    ),
    Found(
        "a customer that no crosswalk has",
        PREPARE,
        holds(HEADER + "77,GROUP,Centers\n1002,ITEM,Tenants\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("orphan_reference",)], ("ITEM", "Tenants")),
        "the row is rejected (`orphan_reference`), the others are migrated",
    ),
)
