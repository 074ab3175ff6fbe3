"""What no declaration says of plausible rows of DTX 1.0: what rows of several tables have to agree on, and PHP values.

The rest is in `mappings/dtx/sample.yaml`, which names these functions; ugly rows are told there, too.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dtx_assets.machinery.samples.rows import Rows, choose, join, php, text

Columns = dict[str, pl.Expr]

FIRST_ID = {
    "customer": 1_001,
    "account": 50_001,
    "directory": 30_001,
    "vendor": 20_001,
    "record": 9_001,
    "user": 11,
    "target_user": 201,
    "requirements": 3_001,
    "coi_risk_profile": 401,
    "requirements_group": 7_001,
    "document_type": 1,
    "docrequirement": 80_001,
    "document": 600_001,
    "certificate": 700_001,
}
"""The id of the first of each; legacy and target ids differ, so that one taken for the other is seen."""
COUNTED = {
    "customer": "crosswalk_account",
    "vendor": "crosswalk_record",
    "user": "crosswalk_user",
    "requirements": "crosswalk_requirements",
}
"""The tables that have a row for each of them."""

NO_SUCH_ID = 500_000_000
"""Added to an id, it names nothing: no sample is that large."""
SAMPLE_FILES = 12
"""How many files the file repository of a sample has; unlinked rows of repo_file share them."""


# --- ids, names and PHP values ----------------------------------------------------------------------------------------


def numbered(kind: str, index: pl.Expr) -> pl.Expr:
    """The id of the index-th of a kind."""
    return index + FIRST_ID[kind]


def some_of(rows: Rows, kind: str, name: str | None = None) -> pl.Expr:
    """Which customer, vendor, user or requirements a row is about, at random."""
    return rows.below(name or kind, rows.size_of(COUNTED[kind]))


def in_turn(rows: Rows, kind: str, each: int = 1) -> pl.Expr:
    return rows.position // each % rows.size_of(COUNTED[kind])


def company(rows: Rows, index: pl.Expr) -> pl.Expr:
    names, trades = (rows.lists[name] for name in ("companies", "trades"))
    return join(rows.pick("company", names, index), " ", rows.pick("trade", trades, index), " ", index + 1, " LLC")


def mailbox(rows: Rows, index: pl.Expr, which: int) -> pl.Expr:
    """An address of the index-th customer."""
    return join(choose(rows.lists["mailboxes"], index + 3 * which), "@customer", index + 1, ".example.com")


def requirements_group_of(record: pl.Expr) -> pl.Expr:
    """Index of the group that a record is a member of: every tenth record shares that of the one before it."""
    return record - (record % 10 == 9).cast(pl.Int64)


# --- notifications ----------------------------------------------------------------------------------------------------


def notification(rows: Rows) -> Columns:
    """A row for COI and one for DOCUMENT of each customer, with other settings than usual in one row of ten."""
    varied = rows.chance("varied", 0.1)
    columns: Columns = {
        "notification_id": rows.position + 1,
        "customer_id": numbered("customer", rows.position // 2),
        "type": choose(("COI", "DOCUMENT"), rows.position),
    }
    for name, usual in (str(setting).split("=") for setting in rows.lists["usual_settings"]):
        column = text(usual)
        if not name.endswith("Timing"):
            column = pl.when(varied).then(rows.pick(name, rows.lists["other_settings"])).otherwise(column)
        columns[name] = (
            pl.when(~varied | rows.chance(f"{name} is set", 0.5)).then(column) if "Restart" in name else column
        )
    columns |= {
        "send_hold": rows.pick("send_hold", ("HOLD", "HOLD", "HOLD", "HOLD", "SEND")),
        "dow_bitmap": rows.pick("dow_bitmap", (*["32"] * 14, "62", "62", "127", "42", "36", "2", "64", "0")),
        "user_id": rows.some("user", numbered("user", some_of(rows, "user")), 0.05),
        "create_time": rows.time("create_time"),
    }
    if not rows.ugly_share:
        return columns
    cells = [str(cell).partition("=")[::2] for cell in rows.lists["spoilt_notifications"]]
    kind = _spoil(rows, columns, cells, more=1)
    columns["DRFRRSetting"] = pl.when(kind == 0).then(pl.lit("abc")).otherwise(columns["DRFRRSetting"])
    columns["customer_id"] += pl.when(kind == len(cells)).then(NO_SUCH_ID).otherwise(0)
    return columns


def _spoil(rows: Rows, columns: Columns, cells: Sequence[tuple[str, str]], more: int = 0) -> pl.Expr:
    """Puts cells in place of those of spoilt rows; gives which of them, or of so many more, a row has."""
    kind = pl.when(rows.chance("spoilt", rows.ugly_share)).then(rows.below("spoilt how", len(cells) + more))
    for number, (name, value) in enumerate(cells):
        columns[name] = pl.when(kind == number).then(pl.lit(value)).otherwise(columns[name])
    return kind


def notification_audit(rows: Rows) -> Columns:
    columns = notification(Rows(rows.seed, "notification", rows.size_of, lists=rows.lists))
    return {name: column for name, column in columns.items() if "Restart" not in name}


def notification_webhook(rows: Rows) -> Columns:
    customers = (rows.size_of("notification") + 1) // 2
    each = max(1, rows.size_of("notification_webhook") // customers)
    customer = (rows.position // each) % customers
    combination = (rows.position % each) * 4 + customer
    people = rows.below("people", 4, customer) + rows.chance("other people", 0.2).cast(pl.Int64)
    boxes = [mailbox(rows, customer, which) for which in range(3)]
    groups = (boxes[:1], [boxes[1], boxes[0]], boxes[2:], boxes)
    addresses: pl.Expr = pl.concat_list(groups[3])
    for number in range(3):
        addresses = pl.when(people == number).then(pl.concat_list(groups[number])).otherwise(addresses)
    columns = {
        "customer_id": numbered("customer", customer),
        "type": choose(["COI"] * 8 + ["DOCUMENT"] * 8, combination),
        "selector": choose(rows.lists["selectors"], combination),
        "webhook": php(addresses),
    }
    if rows.ugly_share:
        _spoil(rows, columns, [str(cell).partition("=")[::2] for cell in rows.lists["spoilt_webhooks"]])
    return columns


def notification_lookup(rows: Rows) -> Columns:
    """Names the notification rows of each customer."""
    count = rows.size_of("notification")
    numbers = {"coi_notification_id": rows.position * 2 + 1, "doc_notification_id": rows.position * 2 + 2}
    named = {name: pl.when(number <= count).then(number) for name, number in numbers.items()}
    return {"customer_id": numbered("customer", rows.position), **named}


def letter(rows: Rows) -> Columns:
    customer = in_turn(rows, "customer")
    combination = rows.position // rows.size_of("crosswalk_account") + customer
    begin, end, close = (str(part) for part in rows.lists["letter"])
    return {
        "customer_id": numbered("customer", customer),
        "type": choose(["COI"] * 8 + ["DOCUMENT"] * 8, combination),
        "selector": choose(rows.lists["selectors"], combination),
        "subject": choose(rows.lists["letter_subjects"], combination),
        "letter_body": join(
            begin, choose(rows.lists["letter_texts"], combination), "\n", end, company(rows, customer), close
        ),
    }


def messagequeue(rows: Rows) -> Columns:
    vendor = some_of(rows, "vendor")
    sent = rows.time("send_time", "2018-01-01", 2_000)
    name = company(rows, vendor)
    first = pl.when(rows.chance("left over", 0.05)).then(pl.lit("__DATE__")).otherwise(sent)
    begin, middle, image, end = (str(part) for part in rows.lists["message"])
    owner = company(rows, some_of(rows, "customer"))
    return {
        "message_id": rows.position + 1,
        "vendor_id": numbered("vendor", vendor),
        "customer_id": numbered("customer", some_of(rows, "customer")),
        "subject": join("Insurance of ", name, " expires soon"),
        "letter_body": join(begin, first, "</p><p>", name, middle, owner, image, rows.position + 1, end),
        "to_email": mailbox(rows, vendor, 1),
        "send_time": sent,
        "create_time": sent,
        "guid": join(rows.noise("guid 1").cast(pl.String).str.zfill(10), "-", rows.noise("guid 2"), "-4a7b"),
    }


def envelope(rows: Rows) -> Columns:
    """The contact is PHP within PHP."""
    vendor = some_of(rows, "vendor")
    contact = {
        "name": company(rows, vendor),
        "address": join(rows.below("house", 900) + 1, " Main St, ", rows.pick("city", rows.lists["cities"])),
        "email": php(pl.concat_list(mailbox(rows, vendor, 0), mailbox(rows, vendor, 1))),
        "phone": join("555-01", rows.below("phone", 90) + 10),
    }
    return {
        "customer_id": numbered("customer", some_of(rows, "customer")),
        "vendor_id": numbered("vendor", vendor),
        "vendor_data": php(pl.struct(value.alias(name) for name, value in contact.items())),
        "access_time": rows.some("access_time", rows.time("access_time", "2020-06-01", 900), 0.55),
        "create_time": rows.time("create_time", "2020-01-01", 800),
        "update_time": rows.time("update_time", "2022-06-01", 500),
    }


# --- files and the rest -----------------------------------------------------------------------------------------------

CERTIFICATE, DOCUMENT, DELETED, UNLINKED = range(4)
_LINKS = [CERTIFICATE] * 10 + [DOCUMENT] * 6 + [DELETED] * 2 + [UNLINKED] * 2


def _file_link(rows: Rows) -> pl.Expr:
    """What became of the file at this position; five tables have to agree on it."""
    return choose(_LINKS, rows.of("repo_file").noise("link"))


def file_names() -> list[str]:
    return [f"certificate_{number:02d}.pdf" for number in range(1, SAMPLE_FILES + 1)]


def repo_file(rows: Rows) -> Columns:
    link = _file_link(rows)
    name = join(rows.pick("file", ("certificate", "acord25", "scan", "policy")), "_", rows.position + 1, ".pdf")
    taken_in = rows.time("intake_date")
    status = rows.pick("status", ("SUBMITTED", "SUBMITTED", "MANUAL_ENTRY"))
    dated = join(taken_in.str.slice(0, 4), "/", taken_in.str.slice(5, 2), "/", name)
    unlinked = join("unlinked/", choose(file_names(), rows.position))
    return {
        "repo_file_id": rows.position + 1,
        "customer_id": numbered("customer", some_of(rows, "customer")),
        "name": name,
        "vendor_id": rows.some("vendor", numbered("vendor", some_of(rows, "vendor")), 0.05),
        "status": pl.when(link == DELETED).then(pl.lit("DELETED")).otherwise(status),
        "certificate_id": pl.when(link == CERTIFICATE).then(rows.position + 40_001),
        "document_id": pl.when(link == DOCUMENT).then(rows.position + 60_001),
        "upload_user_id": rows.some("user", numbered("user", some_of(rows, "user")), 0.2),
        "intake_date": taken_in,
        "repo_filepath": pl.when(link == UNLINKED).then(unlinked).otherwise(dated),
        "ocr_event_id": rows.some("ocr", rows.position + 90_001, 0.6),
        "size": rows.below("size", 900_000) + 10_000,
    }


def repo_file_audit(rows: Rows) -> Columns:
    audit = {"audit_stage": choose(("BEFORE", "AFTER"), rows.position), "audit_time": rows.time("audit_time")}
    return {**audit, **repo_file(rows.of("repo_file"))}


def imap_upload(rows: Rows) -> Columns:
    vendor = some_of(rows, "vendor")
    return {
        "sender": mailbox(rows, vendor, 2),
        "subject": join("Certificate of ", company(rows, vendor)),
        "filename": join("certificate_", rows.position + 1, ".pdf"),
        "filesize": rows.below("filesize", 900_000) + 10_000,
        "repo_file_id": rows.some("file", rows.below("file", rows.size_of("repo_file")) + 1, 0.05),
        "received_time": rows.time("received_time", "2019-01-01", 1_600),
    }


def form_field(rows: Rows) -> Columns:
    return {
        "customer_id": numbered("customer", pl.lit(0)),
        "vendor_id": numbered("vendor", in_turn(rows, "vendor")),
        "property_name": choose(
            ("custom_field_0", "custom_field_1"), rows.position // rows.size_of("crosswalk_record")
        ),
        "value": join("L-", rows.below("value", 9_000) + 1_000),
        "create_user_id": numbered("user", some_of(rows, "user")),
    }


def keyword(rows: Rows) -> Columns:
    """Two renamed labels a customer while customers last, then two others."""
    customers = rows.size_of("crosswalk_account")
    which = (rows.position % 2) + 2 * (rows.position // (2 * customers))
    return {
        "customer_id": numbered("customer", in_turn(rows, "customer", 2)),
        "keyword": choose(rows.lists["keywords"], which),
        "replacement": choose(rows.lists["replacements"], which),
    }


def exemption(rows: Rows) -> Columns:
    vendor = some_of(rows, "vendor")
    is_document = rows.chance("document", 0.3)
    requirement = requirements_group_of(vendor) + rows.below("requirement", 3)
    perpetual = rows.pick("2050", ("2050-12-31", "2050-01-01", "2050-06-30"))
    date = rows.date("ExemptExpDate", "2021-01-01", 3_600)
    date = pl.when(rows.chance("perpetual", 0.3)).then(perpetual).otherwise(date)
    date = pl.when(rows.chance("permanent", 0.5)).then(pl.lit("3000-01-01")).otherwise(date)
    document = choose(rows.lists["document_types"], requirement)
    certificate = (rows.below("certificate", 90_000) + 1).cast(pl.String)
    return {
        "vendor_id": numbered("vendor", vendor),
        "item_type": pl.when(is_document).then(pl.lit("DOCUMENT")).otherwise(pl.lit("COI")),
        "item_name": pl.when(is_document).then(document).otherwise(rows.pick("coverage", rows.lists["coverages"])),
        "ExemptExpDate": rows.some("ExemptExpDate", date, 0.04),
        "ExemptReason": rows.pick("reason", rows.lists["exempt_reasons"]),
        "create_user_id": numbered("user", some_of(rows, "user")),
        "create_time": rows.time("create_time"),
        "requirements_id": rows.some("requirements", numbered("requirements", some_of(rows, "requirements")), 0.2),
        "src": pl.when(rows.chance("from certificate", 0.4)).then(certificate).otherwise(pl.lit("PH")),
    }


def reviewer_address(rows: Rows) -> Columns:
    customer = in_turn(rows, "customer")
    one, two = mailbox(rows, customer, 0), mailbox(rows, customer, 1)
    addresses = pl.when(rows.chance("two", 0.3)).then(pl.concat_list(one, two)).otherwise(pl.concat_list(one))
    return {
        "customer_id": numbered("customer", customer),
        "email_string": php(addresses),
    }


def work_log(rows: Rows) -> Columns:
    start = rows.time("start_time", "2016-01-01", 2_800)
    return {
        "user_id": numbered("user", some_of(rows, "user")),
        "session_id": join(*(rows.pick(f"digit {number}", "0123456789abcdef") for number in range(40))),
        "customer_id": numbered("customer", some_of(rows, "customer")),
        "start_time": start,
        "end_time": rows.some("end_time", join(start.str.slice(0, 11), "23:59:00"), 0.5),
    }


def vornado_feed(rows: Rows) -> Columns:
    vendor = some_of(rows, "vendor")
    end = rows.date("end", "2022-01-01", 4_000, "%m/%d/%Y")
    return {
        "PH_ID": pl.when(rows.chance("rejected", 0.08)).then(-1).otherwise(numbered("vendor", vendor)),
        "Property Code": join("P", rows.below("property", 60) + 100),
        "Tenant ID": join("t", (rows.position + 1).cast(pl.String).str.zfill(7)),
        "Lease Start": rows.date("start", "2005-01-01", 6_000, "%m/%d/%Y"),
        "Lease End": pl.when(rows.chance("perpetual", 0.15)).then(pl.lit("12/31/2050")).otherwise(end),
        "Tenant Name": company(rows, vendor),
    }


def snapshot(rows: Rows) -> Columns:
    return {"Service Owner": company(rows, rows.position), "SO ID": numbered("customer", rows.position)}


def customer_id(rows: Rows) -> pl.Expr:
    return numbered("customer", some_of(rows, "customer"))


def vendor_id(rows: Rows) -> pl.Expr:
    return numbered("vendor", some_of(rows, "vendor"))


def customer_name(rows: Rows) -> pl.Expr:
    return company(rows, some_of(rows, "customer"))


def vendor_name(rows: Rows) -> pl.Expr:
    return company(rows, some_of(rows, "vendor"))


# --- what other areas hand over ---------------------------------------------------------------------------------------


def _root(rows: Rows) -> pl.Expr:
    """The directory of an account: every tenth has none."""
    return pl.when(rows.position % 10 != 9).then(numbered("directory", rows.position))


def crosswalk_account(rows: Rows) -> Columns:
    ids = {"customer_id": numbered("customer", rows.position), "account_id": numbered("account", rows.position)}
    return {**ids, "directory_id": _root(rows)}


def crosswalk_repo_file(rows: Rows) -> Columns:
    link = _file_link(rows)
    document, certificate = numbered("document", rows.position), numbered("certificate", rows.position)
    return {
        "repo_file_id": pl.when(link.is_in([DOCUMENT, CERTIFICATE])).then(rows.position + 1),
        "target_model": choose(("Certificate", "Document"), (link == DOCUMENT).cast(pl.Int64)),
        "target_id": pl.when(link == DOCUMENT).then(document).otherwise(certificate),
    }


def directory(rows: Rows) -> Columns:
    return {"id": _root(rows), "settings": rows.some("settings", choose(rows.lists["settings"], rows.position), 0.1)}


def group_member(rows: Rows) -> Columns:
    """One group a record, and a second one for one record in 25 (positions after the last record)."""
    records = rows.size_of("crosswalk_record")
    first = rows.position < records
    second = (rows.position - records) * 25 + 3
    group = pl.when(first).then(requirements_group_of(rows.position)).otherwise((second + 4) % records)
    return {
        "id": pl.when(first | (second < records)).then(rows.position + 1),
        "record_id": numbered("record", pl.when(first).then(rows.position).otherwise(second)),
        "requirements_group_id": numbered("requirements_group", group),
    }


def document_requirement(rows: Rows) -> Columns:
    group, types = rows.position // 3, rows.size_of("DocumentType")
    return {
        "id": numbered("docrequirement", rows.position),
        "requirements_group_id": numbered("requirements_group", group),
        "document_type_id": numbered("document_type", (group + rows.position % 3) % types),
    }


def account_email(rows: Rows) -> Columns:
    return {
        "id": rows.position + 1,
        "account_id": numbered("account", rows.position // 2),
        "email": mailbox(rows, rows.position // 2, 0),
        "email_type": choose(("primary", "reviewer"), rows.position),
    }


def document(rows: Rows) -> Columns:
    """The documents that Area 4 made."""
    number = rows.position + 1
    return {
        "id": pl.when(_file_link(rows) == DOCUMENT).then(numbered("document", rows.position)),
        "account_id": numbered("account", some_of(rows.of("repo_file"), "customer")),
        "file": join("documents/area4/", number, ".pdf"),
        "original_filename": join("document_", number, ".pdf"),
        "content_hash": join("0" * 54, number.cast(pl.String).str.zfill(10)),
    }


def certificate(rows: Rows) -> Columns:
    return {"id": pl.when(_file_link(rows) == CERTIFICATE).then(numbered("certificate", rows.position))}


def write_files(directory: Path, ugly: bool) -> None:
    """The file repository: small text files that are named like certificates."""
    folder = directory / "files" / "unlinked"
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(file_names(), start=1):
        content = f"%PDF-1.4\n% Certificate {number} of {SAMPLE_FILES} of the sample\n%%EOF\n" * number
        (folder / name).write_bytes(content.encode())
    if ugly:
        (folder / "empty.txt").write_bytes(b"")
        (folder / "r\u00e9sum\u00e9 & co.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
