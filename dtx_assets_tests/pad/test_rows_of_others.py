"""Rows that somebody made before in the target: a taken id with other values, and with equal ones, row by row."""

import json

import psycopg

from dtx_assets_tests.pad.place import make_target, pad, query, request, write_csv
from dtx_assets_tests.pad.running import differences
from dtx_assets_tests.pad.second_reading import REQUEST, Inputs, Rejected, migrate
from dtx_assets_tests.pad.test_run_against_second_reading import CUTOVER_AT, references_of, result_in, rows_of

ROWS = [request(number) for number in range(1, 5)]
# The first has other values, the second has those that its legacy row gives; the rest take ids that nobody asks for.
OTHERS = """
INSERT INTO padealing.pad_request (id, reference_id, employee_id, direction, status, created_at, updated_at)
VALUES (1, NULL, 1, 'SELL', 'approved', now(), now()), (900, 'PAD-900', 1, 'SELL', 'approved', now(), now());
INSERT INTO padealing.pad_request (id, employee_id, security_id, security_name, direction, quantity, estimated_value,
    currency, is_related_party, executed_within_two_days, insider_info_declaration, status, created_at, updated_at)
VALUES (2, 3, 1, 'Vodafone', 'BUY', 30, 100, 'GBP', false, true, true, 'approved', '2024-03-01 09:00+00',
    '2024-03-03 10:00+00');
"""


def test_rows_that_others_made_are_adopted_where_equal_and_a_conflict_where_not(database_url, tmp_path):
    make_target(database_url, tmp_path)
    legacy = write_csv(tmp_path / "csv", ROWS)
    existing = "SELECT to_jsonb(r) FROM padealing.pad_request AS r WHERE id IN (1, 900) ORDER BY id"
    with psycopg.connect(database_url) as connection:
        connection.execute(OTHERS)
    before = query(database_url, existing)
    done = pad(tmp_path, database_url, legacy, CUTOVER_AT=CUTOVER_AT.isoformat())("run", "pad")
    references = (references_of(tmp_path, name) for name in ("oracle_employee", "oracle_bloomberg", "currency"))
    taken = {REQUEST: [before[0][0]]}
    rows = rows_of(legacy / "personal_account_dealing.csv")
    expected = migrate(Inputs(rows, *references, CUTOVER_AT, existing=taken))
    assert expected.rejected[REQUEST] == [Rejected("1", ("target_conflict",), partial=False)]
    assert differences(result_in(database_url), expected) == [], json.dumps(done.stdout + done.stderr)
    assert query(database_url, existing) == before
    assert query(database_url, "SELECT count(*) FROM padealing.pad_request") == [(5,)]


def test_an_approval_that_the_application_made_first_is_left_and_its_audit_entry_comes(database_url, tmp_path):
    """A later conflict concerns one row alone."""
    make_target(database_url, tmp_path)
    undecided = dict.fromkeys(("auth_manager", "status_manager", "auth_manager_date"))
    dtx = pad(tmp_path, database_url, write_csv(tmp_path / "csv", [request(5, **undecided)]))
    dtx("run", "pad")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO padealing.pad_approval (request_id, approval_type, approver_id, decision, decided_at)"
            " VALUES (5, 'manager', 4, 'declined', '2025-01-01 00:00+00')"
        )
    made = "SELECT to_jsonb(a) FROM padealing.pad_approval AS a WHERE approval_type = 'manager'"
    before = query(database_url, made)
    write_csv(tmp_path / "csv", [request(5)])
    done = dtx("run", "pad")
    assert query(database_url, made) == before, done.stdout + done.stderr
    conflicts = "SELECT target_table, source_key, reasons, partial FROM migration.rejected"
    assert query(database_url, conflicts) == [("pad_approval", "5", ["target_conflict"], True)]
    actions = "SELECT action_type FROM padealing.audit_log WHERE request_id = 5 ORDER BY 1"
    assert [row[0] for row in query(database_url, actions)] == [
        *("approval_compliance", "approval_manager", "request_submitted"),
    ]


def test_what_is_overwritten_comes_back_when_it_is_undone(database_url, tmp_path):
    make_target(database_url, tmp_path)
    legacy = write_csv(tmp_path / "csv", ROWS)
    with psycopg.connect(database_url) as connection:
        connection.execute(OTHERS)
    all_requests = "SELECT to_jsonb(r) FROM padealing.pad_request AS r ORDER BY id"
    before = query(database_url, all_requests)
    (tmp_path / "decisions.yaml").write_text('{"on_target_conflict": "overwrite"}')
    dtx = pad(
        tmp_path,
        database_url,
        legacy,
        CUTOVER_AT=CUTOVER_AT.isoformat(),
        DECISIONS=str(tmp_path / "decisions.yaml"),
    )
    done = dtx("run", "pad")
    references = (references_of(tmp_path, name) for name in ("oracle_employee", "oracle_bloomberg", "currency"))
    expected = migrate(Inputs(rows_of(legacy / "personal_account_dealing.csv"), *references, CUTOVER_AT))
    assert not expected.rejected[REQUEST]
    assert differences(result_in(database_url), expected) == [], done.stdout + done.stderr
    undone = dtx("rollback", "last", "--system", "pad", "--yes")
    assert query(database_url, all_requests) == before, undone.stdout + undone.stderr
