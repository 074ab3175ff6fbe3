"""Plausible rows of every sample table, as expressions over a row's position: legacy tables, crosswalks, target rows.

A row depends on the seed and on its position only, so any slice of a table of any size can be made by itself, and ids
fit between tables. Ugly rows are in `sample_ugly`; writing files is in `sample`.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from dtx_assets.dtx.system import SYSTEM

POSITION = "_position"

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

NO_SUCH_ID = 500_000_000
"""Added to an id, it names nothing: no sample is that large."""

DOCUMENT_TYPES = (
    "Business License",
    "W-9",
    "Service Agreement",
    "Safety Manual",
    "Hold Harmless Agreement",
    "Workers Comp Waiver",
    "Lease",
    "Background Check",
    "Performance Bond",
    "Non-Disclosure Agreement",
    "Vehicle Registration",
    "Contractor License",
)
COVERAGES = (
    "GL",
    "Auto",
    "WC",
    "WC",
    "WC",
    "UMB",
    "Professional Liability",
    "Boiler and Machinery",
    "EPLI",
    "Business Personal Property",
    "Business Income",
    "Primary & Non-Contributory",
)
SELECTORS = (
    "NONCOMP",
    "NONCOMP_REMIND_1",
    "NONCOMP_REMIND_2",
    "EXPIRE_SOON",
    "EXPIRE_REMIND_1",
    "EXPIRE_REMIND_2",
    "EXPIRED",
    "REQUEST_REMIND_2",
)
KEYWORDS = {
    "TRACKED_ITEM_NAME": "Tenants",
    "GROUP_NAME": "Centers",
    "CUSTOM_FIELD_1": "Lease #",
    "CUSTOM_FIELD_2": "Suite",
    "CUSTOM_FIELD_3": "Region",
    "CUSTOM_FIELD_4": "Manager",
}
SAMPLE_FILES = 12
"""How many files the file repository of a sample has; unlinked rows of repo_file share them."""

_COMPANIES = ("Acme", "Borealis", "Cobalt", "Delmar", "Evergreen", "Falcon", "Granite", "Harbor", "Ivory", "Juniper")
_TRADES = ("Plumbing", "Electric", "Roofing", "Cleaning", "Landscaping", "Security", "Catering", "Elevator", "Paving")
_CITIES = ("Austin", "Boise", "Camden", "Dayton", "El Paso", "Fresno", "Gary", "Houston")
_STATES = ("TX", "ID", "NJ", "OH", "TX", "CA", "IN", "TX")
_MAILBOXES = ("risk", "insurance", "certificates", "compliance", "leasing", "vendor.desk", "office")


@dataclass(frozen=True)
class Sample:
    """The size and seed of a sample; `rows` is its number of notification rows."""

    rows: int
    seed: int
    ugly_share: float = 0.0
    """Part of the notification and webhook rows that cannot be migrated."""

    def at_least_hundred(self, share: float) -> int:
        return max(min(self.rows, 100), int(self.rows * share))

    @property
    def customers(self) -> int:
        return self.at_least_hundred(0.5)

    @property
    def notified_customers(self) -> int:
        """Customers that have notification rows: one for COI and one for DOCUMENT each."""
        return (self.rows + 1) // 2

    @property
    def vendors(self) -> int:
        return self.at_least_hundred(1)

    @property
    def users(self) -> int:
        return max(20, self.rows // 100)

    @property
    def requirements(self) -> int:
        return max(25, self.rows // 50)

    def size(self, table: str) -> int:
        """Plausible rows of a table."""
        return SIZES[table](self)


@dataclass(frozen=True)
class Rows:
    """Helps to write the columns of one table: everything random is a function of seed, name and position."""

    sample: Sample
    table: str

    @property
    def position(self) -> pl.Expr:
        return pl.col(POSITION)

    def noise(self, name: str, of: pl.Expr | None = None) -> pl.Expr:
        """Evenly spread integers from 0 to 2³²-1; the same for the same `of` (by default the position)."""
        salt = zlib.crc32(f"{self.sample.seed}/{self.table}/{name}".encode())
        mixed = ((self.position if of is None else of) + salt) % (1 << 32)
        for factor in (0x45D9F3B, 0x119DE1F3):
            mixed = (mixed ^ (mixed // 65536)) * factor % (1 << 32)
        return mixed ^ (mixed // 65536)

    def chance(self, name: str, percent: float, of: pl.Expr | None = None) -> pl.Expr:
        return self.noise(name, of) < int(percent / 100 * (1 << 32))

    def pick(self, name: str, values: Sequence[object], of: pl.Expr | None = None) -> pl.Expr:
        return choose(values, self.noise(name, of))

    def some(self, name: str, value: pl.Expr, percent_null: float) -> pl.Expr:
        return pl.when(~self.chance(f"{name} is null", percent_null)).then(value)

    def below(self, name: str, count: int, of: pl.Expr | None = None) -> pl.Expr:
        return self.noise(name, of) % max(count, 1)

    def time(self, name: str, first: str = "2012-01-01", days: int = 4_400) -> pl.Expr:
        seconds = self.noise(name) % (days * 86_400)
        moment = pl.lit(first).str.to_datetime("%Y-%m-%d") + pl.duration(seconds=seconds)
        return moment.dt.to_string("%Y-%m-%d %H:%M:%S")

    def date(self, name: str, first: str, days: int, form: str = "%Y-%m-%d") -> pl.Expr:
        day = pl.lit(first).str.to_date("%Y-%m-%d") + pl.duration(days=self.noise(name) % days)
        return day.dt.to_string(form)

    def customer(self, name: str = "customer") -> pl.Expr:
        return self.below(name, self.sample.customers)

    def vendor(self, name: str = "vendor") -> pl.Expr:
        return self.below(name, self.sample.vendors)


Columns = dict[str, pl.Expr]


def choose(values: Sequence[object], index: pl.Expr) -> pl.Expr:
    """The value at `index`, counted around."""
    return pl.lit(pl.Series(list(values))).gather(index % len(values))


def numbered(kind: str, index: pl.Expr) -> pl.Expr:
    """The id of the index-th of a kind."""
    return index + FIRST_ID[kind]


def text(value: str | int | None) -> pl.Expr:
    return pl.lit(None if value is None else str(value), dtype=pl.String)


def join(*parts: pl.Expr | str) -> pl.Expr:
    return pl.concat_str([pl.lit(part) if isinstance(part, str) else part.cast(pl.String) for part in parts])


def php_string(value: pl.Expr) -> pl.Expr:
    return join("s:", value.str.len_bytes(), ':"', value, '";')


def php_array(values: Sequence[pl.Expr]) -> pl.Expr:
    items = [part for number, value in enumerate(values) for part in (f"i:{number};", php_string(value))]
    return join(f"a:{len(values)}:{{", *items, "}")


def company(rows: Rows, index: pl.Expr) -> pl.Expr:
    return join(
        rows.pick("company", _COMPANIES, index), " ", rows.pick("trade", _TRADES, index), " ", index + 1, " LLC"
    )


def mailbox(index: pl.Expr, which: int) -> pl.Expr:
    """An address of the index-th customer."""
    return join(choose(_MAILBOXES, index + 3 * which), "@customer", index + 1, ".example.com")


def requirements_group_of(record: pl.Expr) -> pl.Expr:
    """Index of the group that a record is a member of: every tenth record shares that of the one before it."""
    return record - (record % 10 == 9).cast(pl.Int64)


# --- notifications ----------------------------------------------------------------------------------------------------


def _settings(rows: Rows) -> Columns:
    """The homogeneous settings that the plan saw, varied in one row of ten."""
    usual: dict[str, str | int] = {
        "CRFRRSetting": 14,
        "CRSRRSetting": 14,
        "CRNRAlertSetting": 5,
        "CRRestartSetting": 30,
        "CESTESetting": 30,
        "CEFERSetting": 14,
        "CEFERTiming": "Before",
        "CEEXPSetting": 1,
        "CEEXPTiming": "After",
        "CESERSetting": 14,
        "CESERTiming": "After",
        "CEEXPAlertSetting": 5,
        "CEEXPAlertTiming": "After",
        "CERestartSetting": 30,
        "CNCFSetting": 14,
        "CNCSSetting": 14,
        "CNCAlertSetting": 5,
        "CNCRestartSetting": 30,
        "DRFRRSetting": 14,
        "DRSRRSetting": 14,
        "DRNRAlertSetting": 5,
    }
    varied = rows.chance("varied", 10)
    columns: Columns = {}
    for name, value in usual.items():
        column = text(value)
        if not name.endswith("Timing"):
            other = rows.pick(name, ("7", "10", "14", "21", "30", "45", "3", "1", "0"))
            column = pl.when(varied).then(other).otherwise(column)
        if "Restart" in name:
            column = pl.when(~varied | rows.chance(f"{name} is set", 50)).then(column)
        columns[name] = column
    return columns


def notification(rows: Rows) -> Columns:
    customer = rows.position // 2
    return _spoilt_notification(
        rows,
        {
            "notification_id": rows.position + 1,
            "customer_id": numbered("customer", customer),
            "type": choose(("COI", "DOCUMENT"), rows.position),
            **_settings(rows),
            "send_hold": rows.pick("send_hold", ("HOLD", "HOLD", "HOLD", "HOLD", "SEND")),
            "dow_bitmap": rows.pick("dow_bitmap", (*["32"] * 14, "62", "62", "127", "42", "36", "2", "64", "0")),
            "user_id": rows.some("user", numbered("user", rows.below("user", rows.sample.users)), 5),
            "create_time": rows.time("create_time"),
        },
    )


def _spoilt_notification(rows: Rows, columns: Columns) -> Columns:
    if not rows.sample.ugly_share:
        return columns
    kinds: tuple[tuple[tuple[str, ...], str], ...] = (
        (("CRFRRSetting", "DRFRRSetting"), "abc"),
        (("CESTESetting",), "3651"),
        (("CNCFSetting",), "-1"),
        (("CEEXPTiming",), "Sometimes"),
        (("send_hold",), "MAYBE"),
        (("type",), "FAX"),
    )
    spoilt = rows.chance("spoilt", rows.sample.ugly_share * 100)
    kind = pl.when(spoilt).then(rows.below("spoilt how", len(kinds) + 1))
    for number, (names, value) in enumerate(kinds):
        for name in names:
            columns[name] = pl.when(kind == number).then(pl.lit(value)).otherwise(columns[name])
    without_account = pl.when(kind == len(kinds)).then(NO_SUCH_ID).otherwise(0)
    columns["customer_id"] = columns["customer_id"] + without_account
    return columns


def notification_webhook(rows: Rows) -> Columns:
    customers = rows.sample.notified_customers
    each = max(1, rows.sample.size("notification_webhook") // customers)
    customer = (rows.position // each) % customers
    combination = (rows.position % each) * 4 + customer
    people = rows.below("people", 4, customer) + pl.when(rows.chance("other people", 20)).then(1).otherwise(0)
    webhook = (
        pl.when(people == 0)
        .then(php_array([mailbox(customer, 0)]))
        .when(people == 1)
        .then(php_array([mailbox(customer, 1), mailbox(customer, 0)]))
        .when(people == 2)
        .then(php_array([mailbox(customer, 2)]))
        .otherwise(php_array([mailbox(customer, number) for number in range(3)]))
    )
    columns = {
        "customer_id": numbered("customer", customer),
        "type": choose(["COI"] * 8 + ["DOCUMENT"] * 8, combination),
        "selector": choose(SELECTORS, combination),
        "webhook": webhook,
    }
    if not rows.sample.ugly_share:
        return columns
    spoilt = rows.chance("spoilt", rows.sample.ugly_share * 100)
    kinds = (
        ("webhook", 'a:1:{i:0;s:99:"cut'),
        ("webhook", 'a:1:{i:0;s:10:"no-at-sign";}'),
        ("webhook", 'O:8:"stdClass":0:{}'),
        ("selector", "WHO_KNOWS"),
        ("webhook", ""),
    )
    kind = pl.when(spoilt).then(rows.below("spoilt how", len(kinds)))
    for number, (name, value) in enumerate(kinds):
        columns[name] = pl.when(kind == number).then(pl.lit(value)).otherwise(columns[name])
    return columns


def notification_lookup(rows: Rows) -> Columns:
    notified = rows.position < rows.sample.notified_customers
    hold = ("HOLD", "SEND")
    return {
        "customer_id": numbered("customer", rows.position),
        "coi_notification_id": pl.when(notified).then(rows.position * 2 + 1),
        "doc_notification_id": pl.when(notified & (rows.position * 2 + 2 <= rows.sample.rows)).then(
            rows.position * 2 + 2
        ),
        "broker_id": rows.some("broker", rows.below("broker", 40) + 1, 30),
        "coi_send_hold": rows.some("coi_send_hold", rows.pick("coi_send_hold", hold), 90),
        "doc_send_hold": rows.some("doc_send_hold", rows.pick("doc_send_hold", hold), 90),
        "coi_dow_bitmap": rows.some("coi_dow_bitmap", rows.pick("coi_dow_bitmap", ("32", "62", "127")), 85),
        "doc_dow_bitmap": rows.some("doc_dow_bitmap", rows.pick("doc_dow_bitmap", ("32", "62")), 85),
        "program_id": text(None),
        "region_id": rows.some("region", rows.below("region", 9) + 1, 50),
        "create_time": rows.time("create_time"),
        "update_time": rows.time("update_time", "2020-01-01", 1_500),
    }


def notification_audit(rows: Rows) -> Columns:
    columns = notification(Rows(Sample(rows.sample.rows, rows.sample.seed), "notification"))
    return {name: columns[name] for name in SYSTEM.legacy_tables["notification_audit"].columns}


_LETTER = """<html><head><title>__SUBJECT__</title></head><body>
<table width="640" cellpadding="0" cellspacing="0"><tr><td><img src="__SO_LOGO__" alt="logo"></td></tr>
<tr><td style="font-family:Arial"><p>__DATE__</p>
<p>__PH_NAME__<br>__PH_ADDRESS1__<br>__PH_CITY__, __PH_STATE__ __PH_ZIPCODE__</p>
"""
_LETTER_TEXTS = (
    """<p>Our records show that the insurance you have on file with __SO_NAME__ will expire shortly:</p>
__EXPIRING_POLICIES__
<p>Please have your agent send a renewed certificate of insurance that meets the requirements below, and name
__CH_NAME__ as certificate holder. A lapse in coverage is a breach of your agreement, and access to the premises may be
withheld until a certificate that complies has been received and reviewed.</p>
__REQUIREMENTS__""",
    """<p>The certificate that __SO_NAME__ received for you does not comply. The items that are missing or too low are
listed here; please forward this letter to your insurance agent at once and ask for a corrected certificate.</p>
__REQUIREMENTS__
<p>__CUSTOM_MESSAGE_1__</p>
<p>This is not the first letter about this matter. Should nothing reach us within ten days, the account manager will be
informed and further steps are taken as your agreement allows.</p>""",
    """<p>__SO_NAME__ needs the documents listed below before work begins. Please upload them at
<a href="__DOCUMENTS_URL__">__DOCUMENTS_URL__</a>, or reply to this message with scanned copies.</p>
__DOCUMENT_REQUIREMENTS__
<p>Documents that are about to lapse:</p>
__DOCUMENTS_EXPIRING__""",
)
_LETTER_END = """
<p>Send questions to the compliance desk of __SO_NAME__, __SO_ADDRESS1__, __SO_CITY__, __SO_STATE__ __SO_ZIPCODE__.
This message was sent to __PH_CONTACT_EMAIL__ because that address is on file; go to
<a href="__SITE_URL__">__SITE_URL__</a> to change it. Do not reply with personal or financial information. The text of
your agreement prevails over this letter, and nothing in it waives a right that the agreement gives.</p>
<table border="1" cellpadding="4"><tr><th>Question</th><th>Answer</th></tr>
<tr><td>Who may send the certificate?</td><td>Your agent or broker, you, or anyone you have asked to.</td></tr>
<tr><td>Which form is accepted?</td><td>The current ACORD form, signed and dated, as a PDF of at most 20 MB.</td></tr>
<tr><td>What if a policy was cancelled?</td><td>Have the carrier confirm the new one before the old one ends.</td></tr>
<tr><td>What if I do not agree?</td><td>Write to us with the clause of your agreement that you rely on.</td></tr>
<tr><td>When will I hear from you?</td><td>Most certificates are reviewed within two business days.</td></tr></table>
<p>Thank you,<br>Compliance Department<br>"""
_LETTER_CLOSE = "</p></td></tr></table></body></html>"


def letter(rows: Rows) -> Columns:
    customers = rows.sample.customers
    customer = rows.position % customers
    combination = rows.position // customers + customer
    kind = choose(["COI"] * 8 + ["DOCUMENT"] * 8, combination)
    selector = choose(SELECTORS, combination)
    return {
        "customer_id": numbered("customer", customer),
        "type": kind,
        "selector": selector,
        "subject": choose(
            (
                "Insurance of __PH_NAME__ expires soon",
                "__SO_NAME__: certificate does not comply",
                "Documents needed by __SO_NAME__",
            ),
            combination,
        ),
        "letter_body": join(
            _LETTER, choose(_LETTER_TEXTS, combination), _LETTER_END, company(rows, customer), _LETTER_CLOSE
        ),
        "edit_time": rows.time("edit_time"),
        "name": text(None),
        "addl_email": text(None),
        "internal_reference_name": text(None),
    }


def messagequeue(rows: Rows) -> Columns:
    customer = rows.customer()
    vendor = rows.vendor()
    sent = rows.time("send_time", "2018-01-01", 2_000)
    return {
        "message_id": rows.position + 1,
        "vendor_id": numbered("vendor", vendor),
        "customer_id": numbered("customer", customer),
        "type": text("COI"),
        "selector": text("EXPIRE_REMIND_1"),
        "subject": join("Insurance of ", company(rows, vendor), " expires soon"),
        "letter_body": join(
            "<html><body><p>",
            pl.when(rows.chance("left over", 5)).then(pl.lit("__DATE__")).otherwise(sent),
            "</p><p>",
            company(rows, vendor),
            "</p>\n<p>Our records show that your insurance will expire shortly. Please have your agent send a renewed "
            "certificate of insurance.</p>\n<p>",
            company(rows, customer),
            '</p><img src="https://risktoolbox.example.com/letters/messageread/',
            rows.position + 1,
            '" width="1" height="1"></body></html>',
        ),
        "to_email": mailbox(vendor, 1),
        "cc_email": text(None),
        "from_email": text("noreply@risktoolbox.example.com"),
        "send_time": sent,
        "read_time": rows.some("read_time", rows.time("read_time", "2023-07-01", 500), 60),
        "status": text("SENT"),
        "create_time": sent,
        "guid": join(rows.noise("guid 1").cast(pl.String).str.zfill(10), "-", rows.noise("guid 2"), "-4a7b"),
    }


def envelope(rows: Rows) -> Columns:
    vendor = rows.vendor()
    emails = php_array([mailbox(vendor, 0), mailbox(vendor, 1)])
    fields = {
        "name": company(rows, vendor),
        "address": join(rows.below("house", 900) + 1, " Main St, ", rows.pick("city", _CITIES)),
        "email": emails,
        "phone": join("555-01", rows.below("phone", 90) + 10),
    }
    members = [part for name, value in fields.items() for part in (f's:{len(name)}:"{name}";', php_string(value))]
    return {
        "envelope_id": rows.position + 1,
        "customer_id": numbered("customer", rows.customer()),
        "vendor_id": numbered("vendor", vendor),
        "event": rows.some("event", rows.pick("event", ["Voided"] * 60 + ["Completed"] * 36 + ["Declined"] * 3), 1),
        "vendor_data": join(f"a:{len(fields)}:{{", *members, "}"),
        "clicks": rows.below("clicks", 6),
        "access_time": rows.some("access_time", rows.time("access_time", "2020-06-01", 900), 55),
        "create_time": rows.time("create_time", "2020-01-01", 800),
        "update_time": rows.time("update_time", "2022-06-01", 500),
    }


# --- files and the rest -----------------------------------------------------------------------------------------------

CERTIFICATE, DOCUMENT, DELETED, UNLINKED = range(4)
_LINKS = [CERTIFICATE] * 10 + [DOCUMENT] * 6 + [DELETED] * 2 + [UNLINKED] * 2


def _file_link(rows: Rows) -> pl.Expr:
    """What became of the file at this position; five tables have to agree on it."""
    return choose(_LINKS, Rows(rows.sample, "repo_file").noise("link"))


def repo_file(rows: Rows) -> Columns:
    link = _file_link(rows)
    vendor = rows.vendor()
    name = join(rows.pick("file", ("certificate", "acord25", "scan", "policy")), "_", rows.position + 1, ".pdf")
    taken_in = rows.time("intake_date")
    return {
        "repo_file_id": rows.position + 1,
        "customer_id": numbered("customer", rows.customer()),
        "name": name,
        "treatment": rows.pick("treatment", ("COI_MANUAL", "COI_OCR", "DOC")),
        "vendor_id": rows.some("vendor", numbered("vendor", vendor), 5),
        "status": pl.when(link == DELETED)
        .then(pl.lit("DELETED"))
        .otherwise(rows.pick("status", ("SUBMITTED", "SUBMITTED", "MANUAL_ENTRY"))),
        "old_status": rows.some("old_status", text("SUBMITTED"), 70),
        "certificate_id": pl.when(link == CERTIFICATE).then(rows.position + 40_001),
        "document_id": pl.when(link == DOCUMENT).then(rows.position + 60_001),
        "attachment_id": text(None),
        "upload_src": rows.pick("upload_src", ("DnD", "Broker", "Email")),
        "upload_email": text(None),
        "upload_user_id": rows.some("user", numbered("user", rows.below("user", rows.sample.users)), 20),
        "upload_ip": text(None),
        "intake_date": taken_in,
        "repo_filepath": pl.when(link == UNLINKED)
        .then(join("unlinked/", choose(file_names(), rows.position)))
        .otherwise(join(taken_in.str.slice(0, 4), "/", taken_in.str.slice(5, 2), "/", name)),
        "ocr_event_id": rows.some("ocr", rows.position + 90_001, 60),
        "ocr_qa": rows.some("ocr_qa", rows.pick("ocr_qa", ("PASS", "FAIL")), 60),
        "display": text("no"),
        "supervisor": rows.some("supervisor", text("no"), 50),
        "autoextractable": text(None),
        "type": text("application/pdf"),
        "size": rows.below("size", 900_000) + 10_000,
        "evt_userid": text(None),
        "evt_sessionid": text(None),
        "client_id": rows.below("client", 9) + 1,
        "page_count": rows.below("pages", 12) + 1,
    }


def file_names() -> list[str]:
    return [f"certificate_{number:02d}.pdf" for number in range(1, SAMPLE_FILES + 1)]


def repo_file_audit(rows: Rows) -> Columns:
    columns = repo_file(Rows(rows.sample, "repo_file"))
    return {
        "audit_stage": choose(("BEFORE", "AFTER"), rows.position),
        "audit_time": rows.time("audit_time"),
        **columns,
    }


def repo_throughput(rows: Rows) -> Columns:
    names = (
        "# Files",
        "# COI",
        "# Documents",
        "% OCR",
        "% Manual",
        "# Deleted",
        "# Rejected",
        "Avg Pages / File",
        "Avg Days to Enter",
        "% Entered < 1 Day",
        "% Entered < 3 Days",
        "# Open",
        "# Broker Uploads",
        "# Email Uploads",
        "# D'n'D Uploads",
        "Files / PH",
    )
    return {
        "Service Owner": company(rows, rows.position),
        "SO ID": numbered("customer", rows.position),
        "Snapshot": text("2023-11-30"),
        **{name: rows.below(name, 100) for name in names},
    }


def imap_upload(rows: Rows) -> Columns:
    vendor = rows.vendor()
    return {
        "imap_upload_id": rows.position + 1,
        "mailbox": text("certificates@risktoolbox.example.com"),
        "sender": mailbox(vendor, 2),
        "subject": join("Certificate of ", company(rows, vendor)),
        "filename": join("certificate_", rows.position + 1, ".pdf"),
        "filesize": rows.below("filesize", 900_000) + 10_000,
        "repo_file_id": rows.some("file", rows.below("file", rows.sample.size("repo_file")) + 1, 5),
        "received_time": rows.time("received_time", "2019-01-01", 1_600),
        "message_uid": rows.below("uid", 90_000) + 1,
        "status": text("PROCESSED"),
    }


def form_field(rows: Rows) -> Columns:
    vendor = rows.position % rows.sample.vendors
    return {
        "form_field_id": rows.position + 1,
        "customer_id": numbered("customer", pl.lit(0)),
        "vendor_id": numbered("vendor", vendor),
        "form_name": text("vendor_view"),
        "model_name": text("Vendorhistory"),
        "property_name": choose(("custom_field_0", "custom_field_1"), rows.position // rows.sample.vendors),
        "label": text("Lease #"),
        "field_type": text("text"),
        "required": text("no"),
        "display_order": text("0"),
        "options": text(None),
        "default_value": text(None),
        "value": join("L-", rows.below("value", 9_000) + 1_000),
        "visible": text("yes"),
        "create_user_id": numbered("user", rows.below("user", rows.sample.users)),
        "create_time": rows.time("create_time"),
        "update_time": text(None),
    }


def keyword(rows: Rows) -> Columns:
    # Two renamed labels a customer while customers last, then two others.
    customer = (rows.position // 2) % rows.sample.customers
    which = (rows.position % 2) + 2 * (rows.position // (2 * rows.sample.customers))
    return {
        "customer_id": numbered("customer", customer),
        "keyword": choose(list(KEYWORDS), which),
        "replacement": choose(list(KEYWORDS.values()), which),
    }


def exemption(rows: Rows) -> Columns:
    vendor = rows.vendor()
    is_document = rows.chance("document", 30)
    requirement = requirements_group_of(vendor) + rows.below("requirement", 3)
    date = (
        pl.when(rows.chance("permanent", 50))
        .then(pl.lit("3000-01-01"))
        .when(rows.chance("perpetual", 30))
        .then(rows.pick("2050", ("2050-12-31", "2050-01-01", "2050-06-30")))
        .otherwise(rows.date("ExemptExpDate", "2021-01-01", 3_600))
    )
    return {
        "exemption_id": rows.position + 1,
        "vendor_id": numbered("vendor", vendor),
        "item_type": pl.when(is_document).then(pl.lit("DOCUMENT")).otherwise(pl.lit("COI")),
        "item_name": pl.when(is_document)
        .then(choose(DOCUMENT_TYPES, requirement))
        .otherwise(rows.pick("coverage", COVERAGES)),
        "ExemptExpDate": rows.some("ExemptExpDate", date, 4),
        "ExemptReason": rows.pick(
            "reason",
            (
                "Sole proprietor",
                "Sole proprietor ",
                "WC NOT MANDATORY IN TX",
                "waived",
                "Waived per client",
                "waived  ",
                "No employees",
                "Does not use vehicles on site",
            ),
        ),
        "ExemptReviewStatus": text("COMPLIANT"),
        "create_user_id": numbered("user", rows.below("user", rows.sample.users)),
        "create_time": rows.time("create_time"),
        "requirements_id": rows.some(
            "requirements", numbered("requirements", rows.below("requirements", rows.sample.requirements)), 20
        ),
        "src": pl.when(rows.chance("from certificate", 40))
        .then((rows.below("certificate", 90_000) + 1).cast(pl.String))
        .otherwise(pl.lit("PH")),
    }


def reviewer_address(rows: Rows) -> Columns:
    customer = rows.position % rows.sample.customers
    return {
        "reviewer_address_id": rows.position + 1,
        "customer_id": numbered("customer", customer),
        "email_string": pl.when(rows.chance("two", 30))
        .then(php_array([mailbox(customer, 0), mailbox(customer, 1)]))
        .otherwise(php_array([mailbox(customer, 0)])),
        "type": text(""),
        "level": text(0),
        "update_time": rows.time("update_time"),
    }


def billing_data(rows: Rows) -> Columns:
    names = (
        "# Active PH's",
        "# Inactive PH's",
        "% Compliant",
        "% Non-Compliant",
        "# COI's Processed",
        "# Docs Processed",
        "Fee / PH",
        "Prepaid?",
        "Auto Renew?",
        "# Users",
        "# Logins",
        "# Letters Sent",
        "# Letters Opened",
        "% Opened",
        "Discount %",
        "Invoice Total $",
        "Days Past Due",
    )
    return {
        "Service Owner": company(rows, rows.position),
        "SO ID": numbered("customer", rows.position),
        "Contract Start": rows.date("start", "2010-01-01", 4_000),
        "Contract End": rows.date("end", "2024-01-01", 1_000),
        **{name: rows.below(name, 100) for name in names},
    }


def inactivated_billing_data(rows: Rows) -> Columns:
    vendor = rows.vendor()
    return {
        "Service Owner": company(rows, rows.customer()),
        "SO ID": numbered("customer", rows.customer()),
        "PH Name": company(rows, vendor),
        "PH ID": numbered("vendor", vendor),
        "Date Added": rows.date("added", "2012-01-01", 3_000),
        "Date Inactivated": rows.date("inactivated", "2021-01-01", 900),
        "Inactivated By": rows.pick("by", ("client", "system", "support")),
        "# Months Billed": rows.below("months", 120),
        "Billed?": rows.pick("billed", ("Y", "N")),
        "% of Year": rows.below("share", 100),
        "Fee / Month": rows.below("fee", 40),
        "Customer's Note": text(None),
    }


def lost_revenue(rows: Rows) -> Columns:
    vendor = rows.vendor()
    return {
        "so_id": numbered("customer", rows.customer()),
        "so_name": company(rows, rows.customer()),
        "ph_id": numbered("vendor", vendor),
        "ph_name": company(rows, vendor),
        "lost_date": rows.date("lost", "2020-01-01", 1_300),
        "reason": rows.pick("reason", ("Inactivated", "Contract ended", "Duplicate")),
        "monthly_fee": rows.below("fee", 40),
        "months_left": rows.below("months", 12),
        "lost_amount": rows.below("amount", 480),
    }


def prepay_so_list(rows: Rows) -> Columns:
    return {"customer_id": numbered("customer", rows.position)}


def work_log(rows: Rows) -> Columns:
    start = rows.time("start_time", "2016-01-01", 2_800)
    hexadecimal = "0123456789abcdef"
    return {
        "user_id": numbered("user", rows.below("user", rows.sample.users)),
        "session_id": join(*(rows.pick(f"digit {number}", hexadecimal) for number in range(40))),
        "customer_id": numbered("customer", rows.customer()),
        "start_time": start,
        "end_time": rows.some("end_time", join(start.str.slice(0, 11), "23:59:00"), 50),
    }


VORNADO_FLAGS = (
    "GL Required?",
    "Auto Required?",
    "WC Required?",
    "UMB Required?",
    "Property Required?",
    "Liquor Required?",
    "Add'l Insured?",
    "Waiver of Subrogation?",
    "30 Day Notice?",
    "Plate Glass?",
)
VORNADO_LIMITS = (
    "GL Limit $",
    "GL Agg. Limit $",
    "Auto Limit $",
    "WC Limit $",
    "UMB Limit $",
    "Property % Replacement",
)


def vornado_feed(rows: Rows) -> Columns:
    vendor = rows.vendor()
    return {
        "PH_ID": pl.when(rows.chance("rejected", 8)).then(-1).otherwise(numbered("vendor", vendor)),
        "Property Code": join("P", rows.below("property", 60) + 100),
        "Property Name": join(rows.pick("street", ("Penn Plaza", "Broadway", "Park Ave")), " ", rows.below("no", 90)),
        "Tenant ID": join("t", (rows.position + 1).cast(pl.String).str.zfill(7)),
        "Tenant Name": company(rows, vendor),
        "DBA / Trade Name": text(None),
        "Suite #": rows.below("suite", 3_000),
        "Floor": rows.below("floor", 50),
        "Lease Start": rows.date("start", "2005-01-01", 6_000, "%m/%d/%Y"),
        "Lease End": pl.when(rows.chance("perpetual", 15))
        .then(pl.lit("12/31/2050"))
        .otherwise(rows.date("end", "2022-01-01", 4_000, "%m/%d/%Y")),
        "Lease Type": rows.pick("lease", ("Office", "Retail", "Storage")),
        "Status": rows.pick("status", ("Current", "Current", "Future", "Past")),
        "Sq. Ft.": rows.below("area", 20_000),
        "% of Building": rows.below("share", 100),
        **{name: rows.pick(name, ("Y", "N")) for name in VORNADO_FLAGS},
        **{name: rows.pick(name, ("1000000", "2000000", "5000000")) for name in VORNADO_LIMITS},
        "Special Wording": rows.pick("wording", ("", "reokacnebt cost", "Primary and Noncontributary", "")),
        "Contact Name": text(None),
        "Contact Email": text(None),
        "Contact Phone": text(None),
        "Contact Fax": text(None),
        "Import File": text("ABSINSQRY.TXT"),
        "Import Row": rows.position + 1,
        "Import Date": text("2023-11-30"),
        "Processed?": text("Y"),
        "Error": text(None),
        "Batch #": text(17),
    }


# --- what other areas hand over ---------------------------------------------------------------------------------------


def crosswalk_user(rows: Rows) -> Columns:
    return {"user_id": numbered("user", rows.position), "target_user_id": numbered("target_user", rows.position)}


def _is_root(index: pl.Expr) -> pl.Expr:
    return index % 10 != 9


def crosswalk_account(rows: Rows) -> Columns:
    return {
        "customer_id": numbered("customer", rows.position),
        "account_id": numbered("account", rows.position),
        "directory_id": pl.when(_is_root(rows.position)).then(numbered("directory", rows.position)),
    }


def crosswalk_record(rows: Rows) -> Columns:
    return {"vendor_id": numbered("vendor", rows.position), "record_id": numbered("record", rows.position)}


def crosswalk_requirements(rows: Rows) -> Columns:
    return {
        "requirements_id": numbered("requirements", rows.position),
        "coi_risk_profile_id": numbered("coi_risk_profile", rows.position),
    }


def crosswalk_repo_file(rows: Rows) -> Columns:
    link = _file_link(rows)
    is_document = link == DOCUMENT
    linked = is_document | (link == CERTIFICATE)
    return {
        "repo_file_id": pl.when(linked).then(rows.position + 1),
        "target_model": pl.when(is_document).then(pl.lit("Document")).otherwise(pl.lit("Certificate")),
        "target_id": pl.when(is_document)
        .then(numbered("document", rows.position))
        .otherwise(numbered("certificate", rows.position)),
    }


def _only_id(kind: str) -> Callable[[Rows], Columns]:
    return lambda rows: {"id": numbered(kind, rows.position)}


def directory(rows: Rows) -> Columns:
    return {
        "id": pl.when(_is_root(rows.position)).then(numbered("directory", rows.position)),
        "settings": rows.some("settings", rows.pick("settings", ("{}", "{}", '{"theme": "dark"}')), 10),
    }


def record(rows: Rows) -> Columns:
    return {
        "id": numbered("record", rows.position),
        "internal_id": rows.some("internal_id", text(""), 50),
        "internal_id1": text(None),
        "metadata": rows.some("metadata", text("{}"), 50),
    }


def requirementsgroupmember(rows: Rows) -> Columns:
    """One group a record, and a second one for one record in 25 (positions after the last record)."""
    records = rows.sample.vendors
    first = rows.position < records
    second = (rows.position - records) * 25 + 3
    return {
        "id": rows.position + 1,
        "record_id": numbered("record", pl.when(first).then(rows.position).otherwise(second)),
        "requirements_group_id": numbered(
            "requirements_group",
            pl.when(first).then(requirements_group_of(rows.position)).otherwise((second + 4) % records),
        ),
    }


def documenttype(rows: Rows) -> Columns:
    return {"id": numbered("document_type", rows.position), "name": choose(DOCUMENT_TYPES, rows.position)}


def docrequirement(rows: Rows) -> Columns:
    group = rows.position // 3
    return {
        "id": numbered("docrequirement", rows.position),
        "requirements_group_id": numbered("requirements_group", group),
        "document_type_id": numbered("document_type", (group + rows.position % 3) % len(DOCUMENT_TYPES)),
        "is_exempted": text("false"),
        "exemption_note": text(None),
    }


def accountemail(rows: Rows) -> Columns:
    return {
        "id": rows.position + 1,
        "account_id": numbered("account", rows.position // 2),
        "email": mailbox(rows.position // 2, 0),
        "email_type": choose(("primary", "reviewer"), rows.position),
    }


def document(rows: Rows) -> Columns:
    """The documents that Area 4 made."""
    linked = _file_link(rows) == DOCUMENT
    return {
        "id": pl.when(linked).then(numbered("document", rows.position)),
        "account_id": numbered("account", Rows(rows.sample, "repo_file").customer()),
        "record_id": text(None),
        "uploaded_by_id": text(None),
        "file": join("documents/area4/", rows.position + 1, ".pdf"),
        "original_filename": join("document_", rows.position + 1, ".pdf"),
        "content_hash": join("0" * 54, (rows.position + 1).cast(pl.String).str.zfill(10)),
        "status": text("approved"),
        "needs_review": text("false"),
        "created_by_id": text(None),
        "created": text("2024-01-31 12:00:00+00"),
        "metadata": text(None),
    }


def certificate(rows: Rows) -> Columns:
    return {"id": pl.when(_file_link(rows) == CERTIFICATE).then(numbered("certificate", rows.position))}


TABLES: dict[str, Callable[[Rows], Columns]] = {
    "notification": notification,
    "notification_webhook": notification_webhook,
    "notification_lookup": notification_lookup,
    "notification_audit": notification_audit,
    "letter": letter,
    "messagequeue": messagequeue,
    "envelope": envelope,
    "repo_file": repo_file,
    "repo_file_audit": repo_file_audit,
    "repo_throughput": repo_throughput,
    "imap_upload": imap_upload,
    "form_field": form_field,
    "keyword": keyword,
    "exemption": exemption,
    "reviewer_address": reviewer_address,
    "billing_data": billing_data,
    "inactivated_billing_data": inactivated_billing_data,
    "lost_revenue": lost_revenue,
    "prepay_so_list": prepay_so_list,
    "work_log": work_log,
    "vornado_feed": vornado_feed,
    "crosswalk_user": crosswalk_user,
    "crosswalk_account": crosswalk_account,
    "crosswalk_record": crosswalk_record,
    "crosswalk_repo_file": crosswalk_repo_file,
    "crosswalk_requirements": crosswalk_requirements,
}
"""Legacy tables and crosswalks. A row whose first column is null is left out."""

TARGET_ROWS: dict[str, Callable[[Rows], Columns]] = {
    "docutrax_users_user": _only_id("target_user"),
    "docutrax_hierarchy_account": _only_id("account"),
    "docutrax_hierarchy_directory": directory,
    "docutrax_hierarchy_record": record,
    "docutrax_profiles_requirementsgroup": _only_id("requirements_group"),
    "docutrax_profiles_requirementsgroupmember": requirementsgroupmember,
    "docutrax_profiles_coiriskprofile": _only_id("coi_risk_profile"),
    "docutrax_profiles_documenttype": documenttype,
    "docutrax_profiles_docrequirement": docrequirement,
    "docutrax_hierarchy_accountemail": accountemail,
    "docutrax_profiles_document": document,
    "docutrax_profiles_certificate": certificate,
}
"""Rows of the target that other areas own, in an order in which foreign keys hold."""


def _share(part: float) -> Callable[[Sample], int]:
    return lambda sample: sample.at_least_hundred(part)


SIZES: dict[str, Callable[[Sample], int]] = {
    "notification": _share(1),
    "notification_webhook": lambda sample: sample.rows if sample.rows <= 100 else 2 * sample.rows,
    "notification_lookup": lambda sample: sample.customers,
    "notification_audit": _share(0.5),
    "letter": _share(0.1),
    "messagequeue": _share(0.05),
    "envelope": _share(0.5),
    "repo_file": _share(0.5),
    "repo_file_audit": _share(0.2),
    "repo_throughput": _share(0.01),
    "imap_upload": _share(0.1),
    "form_field": _share(0.5),
    "keyword": _share(0.1),
    "exemption": _share(1),
    "reviewer_address": _share(0.1),
    "billing_data": _share(0.05),
    "inactivated_billing_data": _share(0.05),
    "lost_revenue": _share(0.05),
    "prepay_so_list": _share(0.01),
    "work_log": _share(0.2),
    "vornado_feed": _share(0.05),
    "crosswalk_user": lambda sample: sample.users,
    "crosswalk_account": lambda sample: sample.customers,
    "crosswalk_record": lambda sample: sample.vendors,
    "crosswalk_repo_file": lambda sample: sample.size("repo_file"),
    "crosswalk_requirements": lambda sample: sample.requirements,
    "docutrax_users_user": lambda sample: sample.users,
    "docutrax_hierarchy_account": lambda sample: sample.customers,
    "docutrax_hierarchy_directory": lambda sample: sample.customers,
    "docutrax_hierarchy_record": lambda sample: sample.vendors,
    "docutrax_profiles_requirementsgroup": lambda sample: sample.vendors,
    "docutrax_profiles_requirementsgroupmember": lambda sample: sample.vendors + (sample.vendors + 21) // 25,
    "docutrax_profiles_coiriskprofile": lambda sample: sample.requirements,
    "docutrax_profiles_documenttype": lambda _: len(DOCUMENT_TYPES),
    "docutrax_profiles_docrequirement": lambda sample: 3 * sample.vendors,
    "docutrax_hierarchy_accountemail": lambda sample: sample.size("reviewer_address"),
    "docutrax_profiles_document": lambda sample: sample.size("repo_file"),
    "docutrax_profiles_certificate": lambda sample: sample.size("repo_file"),
}
"""How many positions each table has in a sample."""


def make_rows(sample: Sample, table: str, first: int, count: int) -> pl.DataFrame:
    """Rows `first` to `first + count` of a table, all columns as text; NULL is null."""
    build = TABLES.get(table) or TARGET_ROWS[table]
    columns = build(Rows(sample, table))
    frame = (
        pl.DataFrame({POSITION: pl.int_range(first, first + count, dtype=pl.Int64, eager=True)})
        .lazy()
        .select(value.cast(pl.String).alias(name) for name, value in columns.items())
        .filter(pl.first().is_not_null())
    )
    return frame.collect()
