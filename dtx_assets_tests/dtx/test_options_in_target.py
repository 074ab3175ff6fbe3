"""What each option of each decision makes of one small world, seen where it counts: in the target, after the whole run.

Every decision has one query, and every option of it the answer that is due under it; no two options have the same
answer, so that none is taken for another. `RUNS` shows several options at once, so that three runs show them all.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ruamel.yaml import YAML

from dtx_assets.dtx.system import DECISIONS_FILE, SYSTEM, load_other_areas
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.dagster.run import open_instance, planned_job, run_job, select_assets
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.running import (
    SMALL_WORLD,
    envelope,
    exemption,
    form_field,
    imap_upload,
    keyword,
    lease,
    letter,
    lookup,
    notification,
    php,
    repo_file,
    reviewer_address,
    rows,
    webhook,
    write_csv,
)

LEGACY = {
    "notification": [
        # 62 is Monday to Friday where Sunday comes first.
        notification(1, 1, send_hold="HOLD", dow_bitmap="62", CRFRRSetting="10", CRSRRSetting="5"),
        notification(2, 2),
    ],
    "notification_lookup": [lookup(1, coi_send_hold="SEND")],
    "notification_webhook": [webhook(php("a@b.c"), customer=2)],
    "letter": [
        letter("Favor de leer, please __NAME__", 1, subject="To __NAME__"),
        letter("Hello __NAME__", 2, subject="Ours"),
    ],
    "exemption": [
        exemption(1, 1),
        exemption(2, 1, item_type="DOCUMENT", item_name="W-9", ExemptExpDate="2020-01-01"),
        exemption(3, 1, item_type="DOCUMENT", item_name="Business License"),
    ],
    "reviewer_address": [
        reviewer_address(php("a@b.c", "new@b.c")),
        # Its length counts bytes of latin1.
        reviewer_address('a:1:{i:0;s:9:"é@müll.de";}', 2, customer=2),
    ],
    "repo_file": [repo_file(100)],
    "envelope": [envelope(1), envelope(2, clicks="4")],
    "imap_upload": [imap_upload(1, 1)],
    "form_field": [form_field(1, "17")],
    "keyword": [keyword("GROUP_NAME", "Centers")],
    "vornado_feed": [lease(1, "02/01/2020", "12/31/2050")],
    "messagequeue": rows("message_id letter_body", (1, "Sent")),
    "repo_file_audit": rows("name", ("a.pdf",)),
    "repo_throughput": rows("files", (3,)),
    "notification_audit": rows("notification_id", (1,)),
    "billing_data": rows("total", (1,)),
    "inactivated_billing_data": rows("total", (1,)),
    "lost_revenue": rows("total", (1,)),
    "prepay_so_list": rows("customer_id", (1,)),
    "work_log": rows("user_id", (1,)),
}
THEIRS = (
    "INSERT INTO docutrax_utils_emailtemplate"
    " (entity_type, entity_id, name, subject, body_html, variables, is_active, is_default, language)"
    " VALUES ('account', 102, 'COI NONCOMP', 'Theirs', 'Hi', '[]', true, false, 'en')"
)
"""A template that somebody else made of the account of customer 2."""

RUNS: dict[str, dict[str, str]] = {
    "first": {
        "timing_semantics": "incremental",
        "send_hold_override": "lookup_wins",
        "dow_bitmap": "accept_gap",
        "bilingual_letters": "tag_es",
        "envelope": "archive",
        "imap_upload": "archive",
        "form_field": "archive",
        "keyword": "account_meta",
        "vornado_feed": "archive",
        "expired_document_exemption": "skip",
        "activation": "as_legacy",
        "php_string_lengths": "utf8_bytes",
        "on_target_conflict": "keep_target",
    },
    "second": {
        "timing_semantics": "cumulative",
        "send_hold_override": "notification_only",
        "dow_bitmap": "send_days",
        "dow_bit_order": "monday_first",
        "bilingual_letters": "both_languages",
        "envelope": "response_tracking",
        "imap_upload": "model",
        "form_field": "record_internal_id",
        "keyword": "directory_settings",
        "vornado_feed": "seed_records",
        "expired_document_exemption": "apply",
        "on_target_conflict": "overwrite",
        "php_string_lengths": "latin1_bytes",
    },
    "third": {
        "dow_bitmap": "metadata",
        "dow_bit_order": "sunday_first",
        "envelope": "aggregate",
        "imap_upload": "document_metadata",
        "form_field": "account_meta",
        "keyword": "archive",
        "vornado_feed": "generic_import",
        "activation": "hold_until_activated",
    },
}
"""What each run shows. Elsewhere the first option is chosen, and says nothing: another one may hide it."""

SCHEDULE = "docutrax_utils_notificationschedule WHERE type = 'coi_request' AND account_id ="
META = "(SELECT jsonb_object_agg(key, value) FROM docutrax_hierarchy_accountmeta WHERE account_id = 101)"


def booked(*tables: str) -> str:
    """Where the rows of legacy tables went, and how many."""
    named = ", ".join(f"'{table}'" for table in tables)
    return (
        "(SELECT array_agg(DISTINCT target_table || ' ' || migrated) FROM migration.accounting"
        f" WHERE source_table IN ({named}))"
    )


LEASE = {"property_code": "P154", "tenant_id": "t0000001", "lease_start": "2020-02-01", "lease_end": None}
ONE_ARCHIVED = ["archive 1"]
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]

ANSWERS: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "timing_semantics": (
        f"SELECT days_after FROM {SCHEDULE} 101 AND sequence = 'final'",
        {"incremental": (15,), "cumulative": (5,)},
    ),
    "send_hold_override": (
        f"SELECT bool_and(is_active) FROM {SCHEDULE} 101",
        {"lookup_wins": (True,), "notification_only": (False,)},
    ),
    "activation": (
        f"SELECT bool_and(is_active) FROM {SCHEDULE} 102",
        {"as_legacy": (True,), "hold_until_activated": (False,)},
    ),
    "dow_bitmap": (
        f"SELECT send_days IS NOT NULL, metadata -> 'dow_bitmap' FROM {SCHEDULE} 101 AND sequence = 'initial'",
        {"accept_gap": (False, None), "send_days": (True, None), "metadata": (False, 62)},
    ),
    "dow_bit_order": (
        f"SELECT coalesce(send_days, metadata -> 'send_days') FROM {SCHEDULE} 101 AND sequence = 'initial'",
        {"sunday_first": (WEEKDAYS,), "monday_first": ([*WEEKDAYS[1:], "sat"],)},
    ),
    "bilingual_letters": (
        "SELECT array_agg(language ORDER BY language) FROM docutrax_utils_emailtemplate WHERE entity_id = 101",
        {"tag_es": (["es"],), "both_languages": (["en", "es"],)},
    ),
    "on_target_conflict": (
        "SELECT subject FROM docutrax_utils_emailtemplate WHERE entity_id = 102",
        {"keep_target": ("Theirs",), "overwrite": ("Ours",)},
    ),
    "php_string_lengths": (
        "SELECT count(*) FROM docutrax_hierarchy_accountemail WHERE (account_id, email) = (102, 'é@müll.de')",
        {"utf8_bytes": (0,), "latin1_bytes": (1,)},
    ),
    "expired_document_exemption": (
        "SELECT is_exempted, exemption_note FROM docutrax_profiles_docrequirement WHERE id = 601",
        {"skip": (False, None), "apply": (True, "Small job (until 2020-01-01)")},
    ),
    "envelope": (
        f"SELECT {booked('envelope')},"
        " (SELECT array_agg(clicks ORDER BY clicks) FROM docutrax_utils_responsetracking),"
        " (SELECT array_agg(ARRAY[envelopes, clicks]) FROM docutrax_utils_responsemetric)",
        {
            "archive": (["archive 2"], None, None),
            "response_tracking": (["docutrax_utils_responsetracking 2"], [3, 4], None),
            "aggregate": (["docutrax_utils_responsemetric 2"], None, [[2, 7]]),
        },
    ),
    "imap_upload": (
        f"SELECT {booked('imap_upload')}, (SELECT array_agg(document_id) FROM docutrax_profiles_imapupload),"
        " (SELECT metadata -> 'imap' ->> 'sender' FROM docutrax_profiles_document WHERE id = 901)",
        {
            "archive": (ONE_ARCHIVED, None, None),
            "model": (["docutrax_profiles_imapupload 1"], [901], None),
            "document_metadata": (["docutrax_profiles_document 1"], None, "sender@example.com"),
        },
    ),
    "form_field": (
        f"SELECT {booked('form_field')}, (SELECT internal_id FROM docutrax_hierarchy_record WHERE id = 201),"
        f" {META} ->> 'form_field.custom_field_0'",
        {
            "archive": (ONE_ARCHIVED, None, None),
            "record_internal_id": (["docutrax_hierarchy_record 1"], "17", None),
            "account_meta": (["docutrax_hierarchy_accountmeta 1"], None, "17"),
        },
    ),
    "keyword": (
        f"SELECT {booked('keyword')}, {META} ->> 'GROUP_NAME',"
        " (SELECT settings -> 'labels' FROM docutrax_hierarchy_directory WHERE id = 801)",
        {
            "account_meta": (["docutrax_hierarchy_accountmeta 1"], "Centers", None),
            "directory_settings": (["docutrax_hierarchy_directory 1"], None, {"GROUP_NAME": "Centers"}),
            "archive": (ONE_ARCHIVED, None, None),
        },
    ),
    "vornado_feed": (
        f"SELECT {booked('vornado_feed')}, metadata -> 'vornado' FROM docutrax_hierarchy_record WHERE id = 201",
        {
            "archive": (ONE_ARCHIVED, None),
            "seed_records": (["docutrax_hierarchy_record 1"], [LEASE]),
            "generic_import": (["docutrax_hierarchy_record 1"], [LEASE]),
        },
    ),
}
"""Decision → a query, and the row it has under each option."""

SAME = {"seed_records", "generic_import"}
"""Options that differ in the way, not in what they come to."""

WITHOUT_OPTIONS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "notification_schedules": (
        "SELECT array_agg(sequence ORDER BY days_after, sequence), min(email_recipients ->> 0)"
        f" FROM {SCHEDULE} 102 OR type = 'coi_non_compliance' AND account_id = 102",
        (["initial", "initial"], "a@b.c"),
    ),
    "notification_lookup_dropped": (f"SELECT {booked('notification_lookup')}", (ONE_ARCHIVED,)),
    "notification_audit_archived": (f"SELECT {booked('notification_audit')}", (ONE_ARCHIVED,)),
    "letter_templates": (
        "SELECT name, subject, body_html, variables FROM docutrax_utils_emailtemplate WHERE entity_id = 101",
        ("COI NONCOMP", "To {NAME}", "Favor de leer, please {NAME}", ["NAME"]),
    ),
    "messagequeue_archived": (
        f"SELECT {booked('messagequeue')}, (SELECT count(*) FROM docutrax_utils_emaillog)",
        (ONE_ARCHIVED, 0),
    ),
    "repo_file_documents": (
        "SELECT account_id, status, needs_review FROM docutrax_profiles_document"
        " WHERE file = 'documents/101/100/certificate.pdf'",
        (101, "new", True),
    ),
    "repo_file_audit_archive": (f"SELECT {booked('repo_file_audit')}", (ONE_ARCHIVED,)),
    "repo_throughput_archive": (f"SELECT {booked('repo_throughput')}", (ONE_ARCHIVED,)),
    "exemption_overrides": (
        "SELECT array_agg(coverage_type), (SELECT is_exempted FROM docutrax_profiles_docrequirement WHERE id = 602)"
        " FROM docutrax_profiles_manualoverride WHERE requirements_group_id = 301",
        (["GeneralLiability"], True),
    ),
    "reviewer_addresses": (
        "SELECT array_agg(email ORDER BY lower(email)) FROM docutrax_hierarchy_accountemail"
        " WHERE account_id = 101 AND email_type = 'reviewer'",
        (["A@B.c", "new@b.c"],),
    ),
    "billing_archive": (
        f"SELECT {booked('billing_data', 'inactivated_billing_data', 'lost_revenue', 'prepay_so_list')},"
        " (SELECT count(*) FROM docutrax_billing_billingprofile)",
        (ONE_ARCHIVED, 0),
    ),
    "work_log_archive": (
        f"SELECT {booked('work_log')}, (SELECT count(*) FROM docutrax_utils_useractivitylog)",
        (ONE_ARCHIVED, 0),
    ),
}
"""Decision → a query of the first run, and its row."""

ELSEWHERE = {"deferred_references"}
"""Decisions about tables that neither area has."""


# --- the runs ---------------------------------------------------------------------------------------------------------


def migrate(directory: Path, url: str, decisions: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    """The whole graph under the given options, without its checks."""
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, write_csv(directory / "target", SMALL_WORLD.other_areas))
        connection.execute(THEIRS)
    chosen = directory / "decisions.yaml"
    YAML().dump(dict(decisions), chosen)
    for name, value in {
        "DTX_LEGACY_URL": write_csv(directory / "legacy", {**LEGACY, **SMALL_WORLD.crosswalks}),
        "DTX_HOME": directory / "home",
        "DTX_TARGET_URL": url,
        "DTX_DECISIONS": chosen,
        "DTX_CUTOVER_AT": "2026-11-21T00:00:00Z",
    }.items():
        patch.setenv(name, str(value))
    system = SYSTEM.under(load_decisions(DECISIONS_FILE, chosen))
    graph = build_definitions(system, ())
    with open_instance(directory / "home") as instance:
        selected = select_assets(graph, system.name, "+target/* or +archive/*")
        outcome = run_job(planned_job(graph, system.name, selected), directory / "home", instance)
    assert outcome.failures == []
    assert outcome.not_run == []


Ask = Callable[[str, str], tuple[Any, ...]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Ask]:
    """The one row that a query has after a named run, which is made on first use."""
    urls: dict[str, str] = {}

    def answer(run: str, query: str) -> tuple[Any, ...]:
        if run not in urls:
            url = postgres_server.create_database(f"options_{run}")
            with pytest.MonkeyPatch.context() as patch:
                migrate(tmp_path_factory.mktemp(run), url, RUNS[run], patch)
            urls[run] = url
        with psycopg.connect(urls[run]) as connection:
            [row] = connection.execute(query.encode()).fetchall()
        return row

    yield answer
    for run in urls:
        postgres_server.drop_database(f"options_{run}")


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_option_of_every_decision_has_a_run_and_an_answer_of_its_own():
    entries = SYSTEM.decisions.entries
    options = {entry.key: list(entry.options) for entry in entries if entry.options}
    assert {decision: list(answers) for decision, (_, answers) in ANSWERS.items()} == options
    shown = sorted((decision, option) for run in RUNS.values() for decision, option in run.items())
    assert shown == sorted((decision, option) for decision, every in options.items() for option in every)
    for _, answers in ANSWERS.values():
        alike = [{one, other} for one, other in combinations(answers, 2) if answers[one] == answers[other]]
        assert all(pair == SAME for pair in alike)
    assert {entry.key for entry in entries} - options.keys() == WITHOUT_OPTIONS.keys() | ELSEWHERE


@pytest.mark.parametrize(
    ("run", "decision"),
    [
        pytest.param(run, decision, id=f"{decision}={option}")
        for run, chosen in RUNS.items()
        for decision, option in chosen.items()
    ],
)
def test_an_option_is_seen_in_the_target(ask, run, decision):
    query, answers = ANSWERS[decision]
    assert ask(run, query) == answers[RUNS[run][decision]]


@pytest.mark.parametrize("decision", WITHOUT_OPTIONS)
def test_a_decision_without_options_is_seen_in_the_target(ask, decision):
    query, expected = WITHOUT_OPTIONS[decision]
    assert ask("first", query) == expected
