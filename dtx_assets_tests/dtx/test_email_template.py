"""The rules of section 4.2, each broken or met by rows of its own."""

from datetime import UTC, datetime

import pytest

from dtx_assets_tests.dtx.running import MANY, by, letter, reasons

MODEL = "EmailTemplate"
BOOKS = ("letter", MODEL)


def letters_of(migration, column, *values, dialect="csv", **decisions):
    """Each value in a letter of a customer of its own: from customer 20 on."""
    rows = [{**letter("Hello", customer), column: value} for customer, value in zip(MANY, values, strict=False)]
    return migration.run({"letter": rows}, dialect=dialect, **decisions)


def column_of(result, name):
    """A column of the templates in order of account."""
    return [value for _, value in sorted(by(result.rows[MODEL], "entity_id", name).items())]


def key_of(customer, kind="COI", selector="NONCOMP"):
    return f'["{customer}","{kind}","{selector}"]'


def test_a_letter_becomes_a_template(migration):
    row = letter("<p>Dear __PH_NAME__, __DATE__</p>", subject="About __PH_NAME__", name="n", addl_email="x@y.z")
    result = migration.run({"letter": [row]})
    assert result.rows[MODEL] == [
        {
            "entity_type": "account",
            "entity_id": 101,
            "name": "COI NONCOMP",
            "subject": "About {PH_NAME}",
            "body_html": "<p>Dear {PH_NAME}, {DATE}</p>",
            "body_text": None,
            "from_email": None,
            "from_name": None,
            "variables": ["DATE", "PH_NAME"],
            "is_active": True,
            "is_default": False,
            "language": "en",
            "created": datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC),
            "modified": datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC),
        }
    ]
    assert result.accounting[BOOKS].migrated == 1


def test_no_account_is_an_orphan(migration):
    customers = (5, 6, 7, None, "x", "1.0")
    result = migration.run({"letter": [letter(customer=customer) for customer in customers]})
    assert [each.reasons for each in result.rejected[MODEL]] == [("orphan_reference",)] * 5
    assert column_of(result, "entity_id") == [101]


# --- macros -----------------------------------------------------------------------------------------------------------

MACROS = [
    ("__DATE__", "{DATE}", ["DATE"]),
    ("__SO_CITY____SO_STATE__", "{SO_CITY}{SO_STATE}", ["SO_CITY", "SO_STATE"]),
    ("__SO_CITY__, __SO_STATE__ __SO_CITY__", "{SO_CITY}, {SO_STATE} {SO_CITY}", ["SO_CITY", "SO_STATE"]),
    ("__SO_ADDRESS1__", "{SO_ADDRESS1}", ["SO_ADDRESS1"]),
    ("___DATE__", "_{DATE}", ["DATE"]),
    ("__DATE___", "{DATE}_", ["DATE"]),
    ("_____DATE_____", "___{DATE}___", ["DATE"]),
    ("__A__B__", "{A}B__", ["A"]),
    ("__A__ __B__C__D__", "{A} {B}C{D}", ["A", "B", "D"]),
    ("x__A__y", "x{A}y", ["A"]),
    ("__NOT_LISTED__", "{NOT_LISTED}", ["NOT_LISTED"]),
    ("__1__", "{1}", ["1"]),
    ("__[X]__ __(Hello)__ a__b__c", "__[X]__ __(Hello)__ a__b__c", []),
    ("__date__ __Date__ __A B__ __A-B__", "__date__ __Date__ __A B__ __A-B__", []),
    ("__A_ _B__ _A_ ____ __É__", "__A_ _B__ _A_ ____ __É__", []),
    ("__A\n__ {DATE} $1 ${1} \\1", "__A\n__ {DATE} $1 ${1} \\1", []),
    ("", "", []),
]


def test_macros_become_placeholders_in_the_body(migration):
    result = letters_of(migration, "letter_body", *(body for body, _, _ in MACROS))
    assert column_of(result, "body_html") == [text for _, text, _ in MACROS]
    assert column_of(result, "variables") == [names for _, _, names in MACROS]


def test_macros_become_placeholders_in_the_subject_and_are_no_variables(migration):
    result = letters_of(migration, "subject", *(body for body, _, _ in MACROS))
    assert column_of(result, "subject") == [text for _, text, _ in MACROS]
    assert {tuple(names) for names in column_of(result, "variables")} == {()}


# --- languages --------------------------------------------------------------------------------------------------------

SPANISH = (
    "Favor de enviar",
    "FAVOR DE",
    "Favor<br>de",
    "Favor<b class='x'\n>de",
    "PÓLIZA vencida",
    "p&oacute;liza",
    "Muchas gracias",
)
ENGLISH = (
    "Hello",
    "Favor",
    "Favor <b>de</b>",
    "Favor\nde",
    '<p title="Favor de">Hello</p>',
    "please",
    "Poliza",
    "",
)
BILINGUAL = ("Favor de / Please", "<p>Thank<br/>you</p><p>Gracias por</p>")


def test_a_letter_with_a_spanish_marker_is_spanish(migration):
    result = letters_of(migration, "letter_body", *SPANISH, *ENGLISH)
    assert column_of(result, "language") == ["es"] * len(SPANISH) + ["en"] * len(ENGLISH)


def test_under_tag_es_a_bilingual_letter_is_one_spanish_template(migration):
    result = letters_of(migration, "letter_body", *BILINGUAL, bilingual_letters="tag_es")
    assert column_of(result, "language") == ["es", "es"]


def test_under_both_languages_a_bilingual_letter_is_two_templates(migration):
    result = letters_of(migration, "letter_body", *BILINGUAL, "Favor de", "Hello", bilingual_letters="both_languages")
    rows = sorted((row["entity_id"], row["language"], row["body_html"]) for row in result.rows[MODEL])
    assert rows == [
        *((1020, language, BILINGUAL[0]) for language in ("en", "es")),
        *((1021, language, BILINGUAL[1]) for language in ("en", "es")),
        (1022, "es", "Favor de"),
        (1023, "en", "Hello"),
    ]
    assert result.accounting[BOOKS].migrated == 4
    assert len(result.links) == 6


# --- several letters of one name --------------------------------------------------------------------------------------


def bodies(result):
    return sorted(row["body_html"] for row in result.rows[MODEL])


@pytest.mark.parametrize(
    ("times", "winner"),
    [
        (("2020-01-01 00:00:00", "2021-01-01 00:00:00", "2020-06-01 00:00:00"), "B"),
        (("2020-01-01 00:00:00", "2020-01-01 00:00:00", "2019-01-01 00:00:00"), "B"),
        (("2020-01-01 00:00:00.5", "2020-01-01 00:00:00", "2020-01-01 00:00:00.4"), "A"),
        ((None, "0001-01-02 00:00:00", None), "B"),
        (("soon", None, "0000-00-00 00:00:00"), "C"),
        (("1969-01-01 00:00:00", "x", None), "A"),
    ],
    ids=["latest", "tie", "fractions", "NULL is earliest", "none has a time", "unparseable is earliest"],
)
def test_the_latest_edit_counts(migration, times, winner):
    rows = [letter(body, edit_time=time) for body, time in zip("ABC", times, strict=True)]
    result = migration.run({"letter": rows})
    assert bodies(result) == [winner]
    keys = (key_of(1), '["1","COI","NONCOMP","2"]', '["1","COI","NONCOMP","3"]')
    losers = {key for key, body in zip(keys, "ABC", strict=True) if body != winner}
    assert reasons(result, MODEL) == {key: ["duplicate_key"] for key in losers}
    assert (result.accounting[BOOKS].migrated, result.accounting[BOOKS].rejected) == (1, 2)


def test_another_language_or_name_is_no_duplicate(migration):
    rows = [letter("A"), letter("Favor de"), letter("C", selector="EXPIRED"), letter("D", type="DOCUMENT")]
    result = migration.run({"letter": rows})
    assert bodies(result) == ["A", "C", "D", "Favor de"]
    assert result.rejected[MODEL] == []


def test_two_customers_of_one_account_are_the_same_account(migration):
    rows = [letter("A", 3, edit_time="2021-01-01 00:00:00"), letter("B", 4)]
    result = migration.run({"letter": rows})
    assert bodies(result) == ["A"]
    assert reasons(result, MODEL) == {key_of(4): ["duplicate_key"]}


def test_a_letter_that_is_rejected_anyway_takes_no_part(migration):
    rows = [letter("A"), letter("B", subject="a\0b", edit_time="2030-01-01 00:00:00")]
    result = migration.run({"letter": rows})
    assert bodies(result) == ["A"]
    assert reasons(result, MODEL) == {'["1","COI","NONCOMP","2"]': ["unparseable"]}


def test_identical_letters_are_duplicates_since_their_key_may_repeat(migration):
    result = migration.run({"letter": [letter(), letter()]})
    books = result.accounting[BOOKS]
    assert (books.migrated, books.rejected, books.dropped) == (1, 1, {})
    assert reasons(result, MODEL) == {key_of(1): ["duplicate_key"]}


def test_a_bilingual_letter_that_loses_one_language_is_migrated_in_the_other(migration):
    rows = [letter("Favor de, please"), letter("Hello", edit_time="2021-01-01 00:00:00")]
    result = migration.run({"letter": rows}, bilingual_letters="both_languages")
    assert by(result.rows[MODEL], "language", "body_html") == {"es": "Favor de, please", "en": "Hello"}
    assert reasons(result, MODEL) == {}
    assert reasons(result, MODEL, partial=True) == {key_of(1): ["duplicate_key"]}
    assert result.accounting[BOOKS].migrated == 2


def test_a_bilingual_letter_that_loses_both_languages_is_rejected(migration):
    rows = [
        letter("Favor de, please"),
        letter("Favor de", edit_time="2021-01-01 00:00:00"),
        letter("Hello", edit_time="2022-01-01 00:00:00"),
    ]
    result = migration.run({"letter": rows}, bilingual_letters="both_languages")
    assert bodies(result) == ["Favor de", "Hello"]
    assert reasons(result, MODEL) == {key_of(1): ["duplicate_key"]}
    assert reasons(result, MODEL, partial=True) == {}


# --- what is missing or cannot be written -----------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["type", "selector", "letter_body"])
def test_a_null_that_a_template_needs_is_a_schema_violation(migration, column):
    result = letters_of(migration, column, None, "NULL", "x")
    assert [each.reasons for each in result.rejected[MODEL]] == [("schema_violation",)] * 2
    assert column in result.details["letter", next(iter(reasons(result, MODEL)))][0]
    assert column_of(result, "entity_id") == [1022]


def test_an_empty_body_is_a_body_and_an_empty_type_is_none(migration):
    assert column_of(letters_of(migration, "letter_body", ""), "body_html") == [""]
    assert reasons(letters_of(migration, "type", ""), MODEL) == {'["20",null,"NONCOMP"]': ["schema_violation"]}


def test_in_a_database_an_empty_type_is_a_text(migration):
    assert column_of(letters_of(migration, "type", "", dialect="database"), "name") == [" NONCOMP"]
    assert column_of(letters_of(migration, "letter_body", "NULL", dialect="database"), "body_html") == ["NULL"]


def test_a_missing_subject_is_an_empty_one(migration):
    result = letters_of(migration, "subject", None, "", "NULL")
    assert column_of(result, "subject") == ["", "", ""]


@pytest.mark.parametrize("column", ["type", "selector", "subject", "letter_body"])
@pytest.mark.parametrize("dialect", ["csv", "database"])
def test_a_nul_or_bytes_that_are_no_text_are_unparseable(migration, column, dialect):
    result = letters_of(migration, column, "a\0b", b"caf\xe9", "café", dialect=dialect)
    assert [each.reasons for each in result.rejected[MODEL]] == [("unparseable",)] * 2
    shown = {row[column] for _, row in result.details.values()}
    assert shown == {r"a\x00b", r"caf\xe9"}
    assert column_of(result, "entity_id") == [1022]


def test_bytes_in_a_column_that_is_not_written_do_no_harm(migration):
    result = letters_of(migration, "addl_email", b"caf\xe9", "a\0b")
    assert result.accounting[BOOKS].migrated == 2


def test_several_reasons_are_one_rejected_row(migration):
    result = migration.run({"letter": [letter(None, 7, subject="a\0b")]})
    assert reasons(result, MODEL) == {key_of(7): ["orphan_reference", "schema_violation", "unparseable"]}
    assert result.accounting[BOOKS].rejected == 1


def test_an_edit_time_that_is_none_is_null_and_counted(migration):
    result = letters_of(migration, "edit_time", "0000-00-00 00:00:00", "soon", None, "", "2020-01-01 00:00:00")
    first = datetime(2020, 1, 1, tzinfo=UTC)
    assert column_of(result, "modified") == column_of(result, "created") == [None, None, None, None, first]
    assert result.accounting[BOOKS].coerced == {"zero_date": 1, "invalid_time": 1}


def test_the_size_of_batches_makes_no_difference(migration):
    rows = [letter(body, number % 8, edit_time=None) for number in range(40) for body in ("Favor de, please", "Hello")]
    whole, pieces = (
        migration.run({"letter": rows}, batch_rows=size, bilingual_letters="both_languages") for size in (100_000, 5)
    )
    assert len(whole.rows[MODEL]) == 6
    assert sorted(map(str, whole.rows[MODEL])) == sorted(map(str, pieces.rows[MODEL]))
    assert sorted(whole.rejected[MODEL]) == sorted(pieces.rejected[MODEL])
    assert (whole.links, whole.accounting) == (pieces.links, pieces.accounting)
