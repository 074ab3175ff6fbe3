"""Where a target row comes from, and where a legacy row went, on the sample."""

import json
import re
from collections import Counter

import psycopg
import pytest

COLUMNS = ("entity_type", "entity_id", "name", "subject", "body_html", "created")


@pytest.fixture
def explain(dtx, target):
    """Explains rows of a target into which letters were loaded; `explain.rows` asks it."""
    assert dtx("run", "--select", "+target/EmailTemplate").returncode == 3

    def run(*words):
        done = dtx("explain", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(query):
        with psycopg.connect(target) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    run.rows, run.command = rows, dtx  # type: ignore[attr-defined]
    return run


def test_rows_are_explained_in_both_directions(explain):
    [(target_id, entity_id, name, key)] = explain.rows(
        "SELECT t.id, t.entity_id, t.name, mapping.source_key FROM docutrax_utils_emailtemplate AS t"
        " JOIN migration.mapping ON mapping.target_id = t.id::text WHERE part = 'es' ORDER BY t.id LIMIT 1"
    )
    facts = json.loads(explain("EmailTemplate", str(target_id), "--json"))
    [source] = facts["sources"]
    assert (source["source_table"], source["source_key"], source["part"]) == ("letter", key, "es")
    customer = json.loads(key)[0]
    [account] = facts["columns"]["entity_id"]["ways"]
    assert account["step"] == f"{customer} → {entity_id}"
    assert account["given"] == {"customer_id": customer}
    assert facts["columns"]["name"]["value"] == name
    assert set(COLUMNS) <= set(facts["columns"])
    assert facts["decisions"] == {"bilingual_letters": "tag_es"}
    [(run_id,)] = explain.rows("SELECT run_id FROM migration.run")
    assert source["run_id"] == run_id

    text = explain("docutrax_utils_emailtemplate", str(target_id), "entity_id")
    assert f"entity_id = {entity_id}" in text
    assert "body_html" not in text
    went = explain("--from", "letter", key)
    assert re.search(rf"went to docutrax_utils_emailtemplate {target_id}, part es", went)


def test_personal_data_is_masked_unless_asked_for(explain):
    [(target_id, body)] = explain.rows(
        "SELECT id, body_html FROM docutrax_utils_emailtemplate WHERE length(body_html) > 200 ORDER BY id LIMIT 1"
    )
    assert body[:60] not in explain("EmailTemplate", str(target_id))
    assert body[:60] in explain("EmailTemplate", str(target_id), "--unmasked")


def test_rejected_changed_and_deleted_rows(explain):
    [(key, reasons)] = explain.rows(
        "SELECT source_key, reasons FROM migration.rejected WHERE NOT partial ORDER BY source_key LIMIT 1"
    )
    facts = json.loads(explain("--from", "letter", key, "--json"))
    assert facts["went_to"] == []
    assert [entry["reasons"] for entry in facts["rejected"]] == [reasons]
    [(low, high)] = explain.rows("SELECT min(id), max(id) FROM docutrax_utils_emailtemplate")
    explain.rows(f"DELETE FROM docutrax_utils_emailtemplate WHERE id = {low}")
    assert "somebody deleted it" in explain("EmailTemplate", str(low))
    assert f"EmailTemplate {high}" in explain("EmailTemplate", str(high))


def test_what_was_lost_of_a_value_is_told(explain):
    """All that the accounting counts, of the rows that it counts it of."""
    [(coerced,)] = explain.rows("SELECT coerced FROM migration.accounting WHERE source_table = 'letter'")
    rows = explain.rows("SELECT id FROM docutrax_utils_emailtemplate WHERE created IS NULL")
    told = Counter()
    for (target_id,) in rows:
        facts = json.loads(explain("EmailTemplate", str(target_id), "--json"))
        [way] = facts["columns"]["created"]["ways"]
        told.update(way["coercions"])
        text = explain("EmailTemplate", str(target_id), "created")
        assert re.findall(r"coerced: (\w+)", text) == way["coercions"]
    assert told == coerced
    [(other,)] = explain.rows("SELECT min(id) FROM docutrax_utils_emailtemplate WHERE created IS NOT NULL")
    assert "coerced" not in explain("EmailTemplate", str(other))


def test_a_row_that_went_nowhere_is_explained(dtx, target):
    """By the rule that dropped it; else by what was not done yet, or what the table is for."""
    assert dtx("run", "--select", "+target/AccountEmail").returncode in (0, 3)
    table = "docutrax_hierarchy_accountemail"
    for key, row in (("900000001", 101), ("900000004", 104)):
        facts = json.loads(dtx("explain", "--from", "reviewer_address", key, "--json").stdout)
        assert facts["went_to"] == facts["rejected"] == []
        assert facts["dropped"] == [{"target_table": table, "source_row": row, "rule": "empty"}]
    assert (
        f"row 101 was dropped for {table} by the rule empty"
        in dtx("explain", "--from", "reviewer_address", "900000001").stdout
    )
    with psycopg.connect(target) as connection:
        [(went,)] = connection.execute(
            "SELECT min(source_key) FROM migration.mapping WHERE target_table = %s", [table]
        ).fetchall()
    assert "dropped" not in dtx("explain", "--from", "reviewer_address", went).stdout
    assert dtx("run", "--select", "legacy/exemption or legacy/lost_revenue").returncode in (0, 3)
    assert "nothing was made of it yet" in dtx("explain", "--from", "exemption", "1").stdout
    assert "no row is made of this table" in dtx("explain", "--from", "lost_revenue", "1").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("EmailTemplate", "987654321"), "is not there"),
        (("EmailTemplate", "1", "nothing"), "is not there|no mapped column"),
        (("NoModel", "1"), "NoModel"),
        (("EmailTemplate", "one"), "no id"),
        (("EmailTemplate",), "do not name a row"),
        (("--from", "no_table", "1"), "no legacy table"),
        (("--from", "letter", "[]"), "no row with the key"),
    ],
)
def test_what_cannot_be_explained_is_told(dtx, target, words, said):
    with psycopg.connect(target) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS other")
    done = dtx("explain", *words)
    assert done.returncode == 2
    assert re.search(f"{said}|nothing was loaded", done.stderr)
    assert "Traceback" not in done.stderr


def test_the_log_of_what_is_rejected(explain, tmp_path):
    """Each entry of `migration.rejected` once, narrowed as asked, masked, and in a file for its owner alone."""
    entries = explain.rows('SELECT source_key, reasons, detail, "row" FROM migration.rejected')
    lines = explain.command("errors", "--format", "jsonl").stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert Counter(entry["source_key"] for entry in told) == Counter(key for key, *_ in entries)
    texts = [row["letter_body"] for *_, row in entries if len(row["letter_body"] or "") > 3]
    assert texts
    assert not any(text in (entry["row"]["letter_body"] or "") for text in texts for entry in told)
    reason = entries[0][1][0]
    narrowed = explain.command("errors", "--table", "letter", "--reason", reason, "--format", "jsonl").stdout
    assert len(narrowed.splitlines()) == sum(reason in reasons for _, reasons, *_ in entries)

    log = tmp_path / "migration-errors.log"
    log.touch(0o644)
    explain.command("errors", "--output", str(log), "--unmasked")
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    whole = [json.loads(line.removeprefix("Original row: ")) for line in text.splitlines() if line.startswith("Orig")]
    assert sorted(map(str, whole)) == sorted(str(row) for *_, row in entries)
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    head = rf'^\[{time}\] ERROR in table "docutrax_utils_emailtemplate", from "letter"'
    assert len(re.findall(head, text, re.MULTILINE)) == len(entries)
    counted = re.findall(r"^ *(\d+)  docutrax_utils_emailtemplate  ", text.partition("Patterns")[2], re.MULTILINE)
    assert sum(map(int, counted)) == len(entries)
    assert counted == sorted(counted, key=int, reverse=True)
    wrong = explain.command("errors", "--table", "leter")
    assert wrong.returncode == 2
    assert "there is no table 'leter'" in wrong.stderr
