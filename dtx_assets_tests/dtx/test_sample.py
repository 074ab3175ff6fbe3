"""The sample: the same bytes every time, the shipped one is what the generator writes, and every ugly case is in it."""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.samples import write as write_module
from dtx_assets.machinery.samples.csv_output import Verbatim, csv_line
from dtx_assets.machinery.samples.sample import Sample
from dtx_assets.machinery.samples.write import TARGET_DIRECTORY, write_sample

SHIPPED = SYSTEM.sample_dir
CONTROL_TOTALS = Path(__file__).parent / "sample_control_totals.csv"
NULLS = {r"\N", "NULL"}
TARGET_ROWS = {SYSTEM.target(model).name for model in Sample(SYSTEM).others}


@cache
def shipped_bytes(table: str) -> bytes:
    path = SHIPPED / f"{table}.csv"
    return (path if path.exists() else SHIPPED / TARGET_DIRECTORY / path.name).read_bytes()


def read(data: bytes) -> list[dict[str, str]]:
    text = io.StringIO(data.decode("utf-8-sig", errors="surrogateescape"), newline="")
    return list(csv.DictReader(text, strict=True))


@cache
def shipped(table: str) -> tuple[dict[str, str], ...]:
    return tuple(read(shipped_bytes(table)))


def values(table: str, column: str) -> list[str]:
    return [row[column] for row in shipped(table)]


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".gitattributes"
    }


# --- the generator ----------------------------------------------------------------------------------------------------


def test_the_shipped_sample_is_what_the_generator_writes(tmp_path: Path) -> None:
    write_sample(SYSTEM, tmp_path)
    assert digests(tmp_path) == digests(SHIPPED)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        write_sample(SYSTEM, tmp_path / name, rows=60, seed=seed)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one")["notification.csv"] != digests(tmp_path / "three")["notification.csv"]


def test_control_totals() -> None:
    # Row counts are in git so that a change to the sample is seen in review.
    with CONTROL_TOTALS.open(encoding="utf-8", newline="") as file:
        totals = {row["table"]: int(row["rows"]) for row in csv.DictReader(file)}
    assert {name: len(shipped(name)) for name in totals} == totals
    assert totals.keys() == {*SYSTEM.legacy_tables, *SYSTEM.crosswalk_tables, *TARGET_ROWS}


def test_a_slice_of_a_table_does_not_depend_on_where_it_starts() -> None:
    sample = Sample(SYSTEM, 1_000, 5)
    whole = sample.frame("exemption", 0, 1_000)
    assert whole.slice(300, 50).equals(sample.frame("exemption", 300, 50))


def test_a_large_sample_is_written_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "SLICE", 7_000)
    seen = defaultdict(list)
    counts = write_sample(
        SYSTEM, tmp_path, rows=20_000, ugly=False, progress=lambda table, rows: seen[table].append(rows)
    )
    assert seen["notification"] == [7_000, 14_000, 20_000]
    tables = {name: read((tmp_path / f"{name}.csv").read_bytes()) for name in ("notification", "notification_webhook")}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "notification": 20_000,
        "notification_webhook": 40_000,
    }
    assert counts["exemption"] == 20_000
    assert counts["letter"] == 2_000

    notifications = tables["notification"]
    assert [int(row["notification_id"]) for row in notifications] == list(range(1, 20_001))
    assert set(Counter(row["customer_id"] for row in notifications).values()) == {2}
    accounts = {row["customer_id"] for row in read((tmp_path / "crosswalk_account.csv").read_bytes())}
    assert {row["customer_id"] for row in notifications} == accounts
    webhooks = Counter((row["customer_id"], row["type"], row["selector"]) for row in tables["notification_webhook"])
    assert len(webhooks) == 40_000
    assert {customer for customer, *_ in webhooks} <= accounts
    assert {row["send_hold"] for row in notifications} == {"HOLD", "SEND"}


def test_ugly_share_spoils_that_part_of_the_rows() -> None:
    clean, spoilt = Sample(SYSTEM, 10_000, 5), Sample(SYSTEM, 10_000, 5, ugly_share=0.2)
    for table in ("notification", "notification_webhook"):
        good, bad = (each.frame(table, 0, 10_000) for each in (clean, spoilt))
        changed = sum(one != two for one, two in zip(good.iter_rows(), bad.iter_rows(), strict=True))
        assert 1_900 < changed < 2_100, table


def test_a_sample_never_takes_the_place_of_an_export(tmp_path: Path) -> None:
    (tmp_path / "letter.csv").write_text("customer_id\n")
    with pytest.raises(ConfigurationError, match=r"already has letter\.csv"):
        write_sample(SYSTEM, tmp_path)
    assert (tmp_path / "letter.csv").read_text() == "customer_id\n"


@pytest.mark.parametrize(("rows", "share"), [(0, 0.0), (-5, 0.0), (10, 1.5)])
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, rows: int, share: float) -> None:
    with pytest.raises(ConfigurationError, match="at least one row"):
        write_sample(SYSTEM, tmp_path / "new", rows=rows, ugly_share=share)
    assert not (tmp_path / "new").exists()


def test_a_sample_of_one_row_has_all_ugly_cases(tmp_path: Path) -> None:
    counts = write_sample(SYSTEM, tmp_path, rows=1)
    ugly_notifications = len(shipped("notification")) - 100
    assert counts["notification"] == 1 + ugly_notifications


def test_csv_fields_are_quoted_where_they_must_be() -> None:
    assert csv_line(["a,b", 'say "no"', None, "", b"caf\xe9", Verbatim(b'"NULL"'), 7, "x\r\ny"]) == (
        b'"a,b","say ""no""",\\N,,caf\xe9,"NULL",7,"x\r\ny"\n'
    )


def test_the_shipped_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("table", SYSTEM.legacy_tables.values(), ids=lambda table: table.name)
def test_columns_are_those_of_the_plan_in_its_order(table) -> None:
    columns = list(shipped(table.name)[0])
    assert len(columns) == table.column_count
    assert [column for column in columns if column in table.columns] == list(table.columns)


def test_special_characters_are_in_column_names() -> None:
    names = [
        name
        for table in ("repo_throughput", "billing_data", "inactivated_billing_data", "vornado_feed")
        for name in shipped(table)[0]
    ]
    for special in "#% '/?":
        assert any(special in name for name in names), special


# --- ugly values ------------------------------------------------------------------------------------------------------

UGLY_VALUES = {
    ("notification", "send_hold"): ["hold", "Send ", "", "MAYBE", r"\N", "NULL"],
    ("notification", "type"): ["coi", " Document ", "FAX", "", r"\N"],
    ("notification", "CRSRRSetting"): ["-1", "3651", "abc", "14.5", "14.0", "0", "3650", "", "NULL"],
    ("notification", "CEEXPTiming"): ["before", "AFTER", "Sometimes", "", r"\N", "NULL"],
    ("notification", "dow_bitmap"): ["128", "-1", "0", r"\N", "62", "127", "42", "32.0", "every day"],
    ("notification", "create_time"): ["0000-00-00 00:00:00", "yesterday", "2019-02-30 10:00:00"],
    ("notification", "user_id"): ["999999999", r"\N", "11.0"],
    ("notification_lookup", "coi_send_hold"): ["SEND", "hold", "PAUSE", ""],
    ("notification_lookup", "coi_dow_bitmap"): ["200", "0", "62"],
    ("notification_webhook", "webhook"): [
        "",
        r"\N",
        "NULL",
        "N;",
        "a:0:{}",
        "i:5;",
        's:0:"";',
        'a:1:{i:0;O:8:"stdClass":0:{}}',
        'a:1:{i:0;s:16:"good@example.com";}x',
        'a:1:{i:0;s:16:"good@example.com";}\n',
        'a:1:{i:0;s:21:"jürgen@bücher.example";}',
        'a:2:{i:0;s:16:"good@example.com";i:1;R:2;}',
        'a:2:{s:2:"to";s:16:"good@example.com";s:2:"cc";a:1:{i:5;s:18:"nested@example.com";}}',
        'a:1:{i:0;s:18:"j\udcfcrgen@example.com";}',
        'a:1:{i:0;s:17:"good\x00@example.com";}',
    ],
    ("notification_webhook", "selector"): ["WHO_KNOWS", "noncomp_remind_1 ", r"\N"],
    ("notification_webhook", "type"): ["REVIEW", "coi"],
    ("letter", "type"): [r"\N", "", "coi "],
    ("letter", "selector"): [r"\N", "", "SOMETHING_ELSE"],
    ("letter", "letter_body"): [
        r"\N",
        "",
        "<p>__SO_CITY____SO_STATE____SO_ZIPCODE__</p>",
        "<p>caf\udce9 in Latin-1 __DATE__</p>",
        "<p>a NUL \x00 inside __DATE__</p>",
        '<p>\r\n__DATE__\r\n"quoted", and a comma\r\n</p>',
        "<p>Favor<br>de renovar su p&oacute;liza.</p>",
    ],
    ("letter", "subject"): [r"\N", "", "caf\udce9"],
    ("letter", "edit_time"): [r"\N", "0000-00-00 00:00:00", "last week"],
    ("exemption", "item_type"): ["COI", "DOCUMENT", "coi ", "OTHER", "", r"\N"],
    ("exemption", "item_name"): [
        "GL",
        "Auto",
        "WC",
        "UMB",
        "Professional Liability",
        "Boiler and Machinery",
        "EPLI",
        "Business Personal Property",
        "Business Income",
        "Primary & Non-Contributory",
        "  professional LIABILITY ",
        "Liquor Liability",
        "Business Lic.",
        "No Such Document",
        "",
        r"\N",
    ],
    ("exemption", "ExemptExpDate"): [
        "3000-01-01",
        "3000-01-01 00:00:00",
        "2050-12-31 00:00:00",
        "2099-12-31",
        "2051-01-01",
        "2031-07-04",
        "2019-07-04",
        "0000-00-00",
        "never",
        "2021-02-30",
        "07/04/2031",
        "2031-07-04 12:00:00",
        "",
        r"\N",
    ],
    ("exemption", "ExemptReason"): ["trailing blank ", "  leading stays\t\r\n", "", r"\N", "caf\udce9"],
    ("exemption", "ExemptReviewStatus"): ["compliant", "PENDING", "", r"\N"],
    ("exemption", "requirements_id"): ["3001.0", "999999999", "twelve", "", r"\N"],
    ("exemption", "create_user_id"): ["999999999", r"\N"],
    ("exemption", "vendor_id"): ["999999999", ""],
    ("reviewer_address", "email_string"): [r"\N", "", "N;", "a:0:{}", 'O:8:"stdClass":0:{}'],
    ("repo_file", "status"): ["DELETED", "deleted ", "", r"\N"],
    ("repo_file", "repo_filepath"): [
        "../outside.pdf",
        "/etc/hostname",
        "unlinked/no_such_file.pdf",
        "unlinked/a\x00b.pdf",
        "unlinked",
        r"\N",
    ],
    ("repo_file", "name"): ["C:\\scans\\policy.pdf", "bell\x07and\ttab.pdf", "folder/", "", r"\N"],
    ("repo_file", "certificate_id"): ["0", "4711"],
    ("repo_file", "attachment_id"): ["77"],
    ("envelope", "event"): [r"\N", "", "completed", "Opened"],
    ("envelope", "vendor_data"): [r"\N", "", 'O:6:"Vendor":0:{}'],
    ("imap_upload", "repo_file_id"): [r"\N", "", "999999999"],
    ("form_field", "property_name"): ["custom_field_0", "custom_field_1", "custom_field_2"],
    ("form_field", "value"): [r"\N", ""],
    ("keyword", "replacement"): [r"\N", ""],
    ("vornado_feed", "PH_ID"): ["-1", "999999999"],
    ("vornado_feed", "Lease End"): ["12/31/2050", "02/30/2021", ""],
    ("vornado_feed", "Special Wording"): ["reokacnebt cost", "Primary and Noncontributary"],
    ("notification_audit", "send_hold"): ["\udcff\udcfe"],
}


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(table, column, value) for (table, column), wanted in UGLY_VALUES.items() for value in wanted],
)
def test_ugly_value_is_in_the_sample(table: str, column: str, value: str) -> None:
    assert value in values(table, column)


@pytest.mark.parametrize(
    ("table", "written"),
    [
        ("notification", b",NULL,"),
        ("notification", b',"NULL",'),
        ("letter", rb'"\N"'),
        ("notification_webhook", b',""\n'),
        ("letter", b"__DATE__\r\n"),
        ("letter", b"\xe9 in Latin-1"),
    ],
)
def test_way_of_writing_is_in_the_sample(table: str, written: bytes) -> None:
    assert written in shipped_bytes(table)


def test_one_table_has_a_byte_order_mark_and_windows_line_ends() -> None:
    data = shipped_bytes("keyword")
    assert data.startswith(b"\xef\xbb\xbfcustomer_id,keyword,replacement\r\n")
    assert data.endswith(b"\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "___DATE__",
        "__(Hello)__",
        "__[DATE]__",
        "a__b__c",
        "__UNKNOWN_MACRO__",
        "td { color: red; }",
        "{DATE}",
        "Favor de enviarle esta solicitud",
        "ESTIMADO PROVEEDOR",
        'title="Favor de"',
        "\U0001f4c4",
    ],
)
def test_letter_with_this_text_is_in_the_sample(text: str) -> None:
    assert any(text in body for body in values("letter", "letter_body"))


def test_a_letter_is_in_both_languages() -> None:
    assert any("Please" in body and "Favor de" in body for body in values("letter", "letter_body"))


def test_invalid_addresses_stand_alone_and_beside_valid_ones() -> None:
    webhooks = values("notification_webhook", "webhook")
    assert 'a:1:{i:0;s:10:"no-at-sign";}' in webhooks
    assert any("good@example.com" in value and "no-at-sign" in value for value in webhooks)
    assert any("Upper.Case@EXAMPLE.com" in value for value in webhooks)


# --- ugly relations ---------------------------------------------------------------------------------------------------


def accounts() -> dict[str, str]:
    return {row["customer_id"]: row["account_id"] for row in shipped("crosswalk_account")}


def ids_of(table: str) -> set[str]:
    return {row["id"] for row in shipped(table)}


def test_two_customers_of_one_account_have_notifications_webhooks_letters_and_keywords() -> None:
    customers = defaultdict(set)
    for customer, account in accounts().items():
        customers[account].add(customer)
    shared = [each for each in customers.values() if len(each) > 1]
    for table in ("notification", "notification_webhook", "letter", "keyword"):
        present = set(values(table, "customer_id"))
        assert any(len(each & present) > 1 for each in shared), table


@pytest.mark.parametrize(
    ("crosswalk", "column", "target"),
    [
        ("crosswalk_user", "target_user_id", "docutrax_users_user"),
        ("crosswalk_account", "account_id", "docutrax_hierarchy_account"),
        ("crosswalk_record", "record_id", "docutrax_hierarchy_record"),
        ("crosswalk_requirements", "coi_risk_profile_id", "docutrax_profiles_coiriskprofile"),
    ],
)
def test_a_crosswalk_is_right_but_for_one_id_that_the_target_lacks(crosswalk: str, column: str, target: str) -> None:
    assert set(values(crosswalk, column)) - ids_of(target) == {"999999999"}


@pytest.mark.parametrize("table", ["notification", "notification_webhook", "letter"])
def test_a_customer_without_account_occurs(table: str) -> None:
    unknown = set(values(table, "customer_id")) - accounts().keys() - NULLS
    assert unknown == {"999999999"}


@pytest.mark.parametrize("name", SYSTEM.crosswalk_tables)
def test_no_crosswalk_contradicts_itself(name: str) -> None:
    distinct = {tuple(row.values()) for row in shipped(name)}
    assert len({row[0] for row in distinct}) == len(distinct)


def test_a_crosswalk_row_occurs_twice() -> None:
    assert max(Counter(values("crosswalk_user", "user_id")).values()) == 2


@pytest.mark.parametrize("table", ["notification", "exemption", "repo_file"])
def test_identical_rows_and_rows_with_the_same_key_occur(table: str) -> None:
    by_key = defaultdict(list)
    for row in shipped(table):
        by_key[row[SYSTEM.legacy_tables[table].key[0]]].append(tuple(row.values()))
    doubled = [rows for rows in by_key.values() if len(rows) > 1]
    assert any(len(set(rows)) < len(rows) for rows in doubled)
    assert any(len(set(rows)) > 1 for rows in doubled)


def test_lookup_rows_name_missing_rows_and_those_of_others_and_occur_several_times() -> None:
    owner = {row["notification_id"]: row["customer_id"] for row in shipped("notification")}
    lookups = [row for row in shipped("notification_lookup") if row["coi_notification_id"] not in NULLS]
    assert any(row["coi_notification_id"] not in owner for row in lookups)
    assert any(owner.get(row["coi_notification_id"], row["customer_id"]) != row["customer_id"] for row in lookups)
    assert max(Counter(values("notification_lookup", "customer_id")).values()) > 1


def test_a_lookup_row_names_the_lower_of_two_competing_notifications() -> None:
    rivals = defaultdict(list)
    for row in shipped("notification"):
        rivals[row["customer_id"], row["type"]].append(row["notification_id"])
    named = {(row["customer_id"], row["coi_notification_id"]) for row in shipped("notification_lookup")}
    assert any(
        len(set(ids)) > 1 and (customer, ids[0]) in named and kind == "COI" for (customer, kind), ids in rivals.items()
    )


def test_webhooks_repeat_their_key_and_some_have_no_notification() -> None:
    keys = Counter((row["customer_id"], row["type"], row["selector"]) for row in shipped("notification_webhook"))
    assert max(keys.values()) >= 3
    notified = {row["customer_id"] for row in shipped("notification")}
    assert any(
        row["customer_id"] not in notified and row["customer_id"] in accounts()
        for row in shipped("notification_webhook")
    )


def test_letters_compete_with_a_tie_and_without_edit_time() -> None:
    rivals = defaultdict(list)
    for row in shipped("letter"):
        rivals[row["customer_id"], row["type"], row["selector"]].append(row["edit_time"])
    several = [times for times in rivals.values() if len(times) > 1]
    assert ["2020-01-01 00:00:00", "2020-01-01 00:00:00"] in several
    assert [r"\N", "2001-01-01 00:00:00"] in several


def groups_by_vendor() -> dict[str, set[str]]:
    groups = defaultdict(set)
    for row in shipped("docutrax_profiles_requirementsgroupmember"):
        groups[row["record_id"]].add(row["requirements_group_id"])
    return {row["vendor_id"]: groups[row["record_id"]] for row in shipped("crosswalk_record")}


def test_exempt_vendors_have_none_one_several_and_shared_groups() -> None:
    groups = groups_by_vendor()
    members = Counter(group for mine in groups.values() for group in mine)
    exempt = [groups[row["vendor_id"]] for row in shipped("exemption") if row["vendor_id"] in groups]
    assert {len(mine) for mine in exempt} >= {0, 1, 2}
    assert any(members[group] == 4 for mine in exempt for group in mine)


def test_document_exemptions_compete_and_some_have_no_requirement() -> None:
    names = {row["id"]: row["name"].casefold() for row in shipped("docutrax_profiles_documenttype")}
    required = {
        (row["requirements_group_id"], names[row["document_type_id"]])
        for row in shipped("docutrax_profiles_docrequirement")
    }
    groups = groups_by_vendor()
    found: Counter[tuple[str, str]] = Counter()
    unmatched = 0
    for row in shipped("exemption"):
        if row["item_type"] == "DOCUMENT" and row["vendor_id"] in groups:
            name = row["item_name"].strip().casefold()
            mine = {(group, name) for group in groups[row["vendor_id"]]} & required
            found.update(mine)
            unmatched += not mine
    assert unmatched >= 3
    assert max(found.values()) >= 2


def test_requirements_were_marked_by_somebody_else() -> None:
    marked = {
        row["exemption_note"] for row in shipped("docutrax_profiles_docrequirement") if row["is_exempted"] == "true"
    }
    assert marked == {"by hand", r"\N", "Sole proprietor"}


def test_linked_files_are_in_the_crosswalk_but_for_a_few() -> None:
    handled = {row["repo_file_id"]: row["target_id"] for row in shipped("crosswalk_repo_file")}
    linked = [
        row["repo_file_id"]
        for row in shipped("repo_file")
        if {row["certificate_id"], row["document_id"]} - {*NULLS, "0"}
    ]
    assert sum(each not in handled for each in linked) == 2
    existing = ids_of("docutrax_profiles_document") | ids_of("docutrax_profiles_certificate")
    assert set(handled.values()) - existing == {"999999999"}


def test_unlinked_files_exist_on_disk_but_for_the_bad_paths() -> None:
    paths = {path for path in values("repo_file", "repo_filepath") if path.startswith("unlinked/")}
    missing = {path for path in paths if "\x00" not in path and not (SHIPPED / "files" / path).is_file()}
    assert missing == {"unlinked/no_such_file.pdf", "unlinked/../../outside.pdf"}
    assert (SHIPPED / "files/unlinked/empty.txt").read_bytes() == b""


# --- target rows ------------------------------------------------------------------------------------------------------


def create_tables(connection: psycopg.Connection) -> None:
    """The target's tables, as plain as foreign keys and identities allow; the product's own DDL is tested elsewhere."""
    names = {"bigint": "bigint", "integer": "integer", "text": "text", "boolean": "boolean"}
    for target in SYSTEM.targets:
        columns = "".join(f', "{column.name}" {names.get(column.type, column.type)}' for column in target.columns)
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{target.name}"'
            f" (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY{columns})"
        )
        for column in target.columns:
            # Several models may fill one table.
            connection.execute(
                f'ALTER TABLE "{target.name}" ADD COLUMN IF NOT EXISTS "{column.name}"'
                f" {names.get(column.type, column.type)}"
            )
    for target in SYSTEM.targets:
        for column in target.columns:
            if column.references:
                connection.execute(
                    f'ALTER TABLE "{target.name}" ADD FOREIGN KEY ("{column.name}")'
                    f' REFERENCES "{column.references}" DEFERRABLE INITIALLY DEFERRED'
                )


def test_rows_of_other_areas_are_inserted_once_with_their_ids(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        create_tables(connection)
        inserted = load_other_areas(connection, SHIPPED / TARGET_DIRECTORY)
        assert inserted == {name: len(shipped(name)) for name in TARGET_ROWS}
        assert connection.execute(
            "SELECT settings->>'theme' FROM docutrax_hierarchy_directory WHERE id = 30003"
        ).fetchone() == ("dark",)
        assert connection.execute(
            "SELECT count(*) FROM docutrax_profiles_docrequirement WHERE exemption_note IS NULL"
        ).fetchone() == (len(shipped("docutrax_profiles_docrequirement")) - 2,)
        connection.commit()

        connection.execute("UPDATE docutrax_hierarchy_directory SET settings = '{\"mine\": 1}' WHERE id = 30003")
        assert set(load_other_areas(connection, SHIPPED / TARGET_DIRECTORY).values()) == {0}
        assert connection.execute("SELECT settings FROM docutrax_hierarchy_directory WHERE id = 30003").fetchone() == (
            {"mine": 1},
        )


def test_missing_rows_of_other_areas_are_filled_in_and_new_ids_come_after_them(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        create_tables(connection)
        load_other_areas(connection, SHIPPED / TARGET_DIRECTORY)
        connection.execute("DELETE FROM docutrax_profiles_documenttype WHERE id = 5")
        connection.execute("DELETE FROM docutrax_profiles_docrequirement WHERE document_type_id = 5")
        inserted = load_other_areas(connection, SHIPPED / TARGET_DIRECTORY)
        assert inserted["docutrax_profiles_documenttype"] == 1
        assert inserted["docutrax_profiles_docrequirement"] > 0
        [new] = connection.execute(
            "INSERT INTO docutrax_profiles_documenttype (name) VALUES ('new') RETURNING id"
        ).fetchone()
        assert new > 12


def test_a_database_without_the_tables_is_named(database_url: str) -> None:
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(StructureError, match="docutrax_users_user"),
    ):
        load_other_areas(connection, SHIPPED / TARGET_DIRECTORY)
