"""Ugly rows of the sample: every case that sections 1.2 and 4.1 to 4.6 of the contract name, at least once.

Cells are listed in `mappings/dtx/sample.yaml`; here is what rows of several tables have to do with one another. Each
case has a customer, vendor or file of its own wherever one fault could hide another.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import phpserialize

from dtx_assets.dtx.sample_rows import FIRST_ID, php_addresses
from dtx_assets.machinery.samples.csv_output import QUOTED_EMPTY, Cell
from dtx_assets.machinery.samples.ugly import Row, UglyRows

FIRST_UGLY_ID = 900_000_001
"""Beyond every id of plausible rows, so that ugly rows are the same in a sample of any size."""
NOBODY = 999_999_999
"""An id that nothing has."""
NO_ROOT = FIRST_UGLY_ID + 900
"""A customer and a vendor whose account and record the target does not have."""
GOOD = php_addresses("good@example.com")

Case = Callable[[UglyRows], None]


class _Rows:
    """Adds rows and what other areas must have for them, with ids of their own."""

    def __init__(self, ugly: UglyRows) -> None:
        self.ugly = ugly
        self.listed = ugly.listed
        # The functions of one sample share the ids.
        self._used: Counter[str] = ugly.notes.setdefault("used", Counter())

    def new_id(self, kind: str) -> int:
        self._used[kind] += 1
        return FIRST_UGLY_ID + self._used[kind] - 1

    def add(self, table: str, usual: Row, cells: Row) -> None:
        self.ugly.add_row(table, {**usual, **cells})

    def account(self, settings: Cell = "{}") -> tuple[int, int]:
        """A new root account of the target and its directory: their ids."""
        account, directory = self.new_id("account"), self.new_id("directory")
        self.ugly.add("Account", id=account)
        self.ugly.add("Directory", id=directory, settings=settings)
        return account, directory

    def customer(self, account: int | None = None, directory: int | None = None) -> int:
        """A new customer with an account: an own one unless `account` is given."""
        customer = self.new_id("customer")
        if account is None:
            account, directory = self.account()
        self.ugly.add("crosswalk_account", customer_id=customer, account_id=account, directory_id=directory)
        return customer

    def customers_of_one_account(self, count: int = 2, settings: Cell = "{}") -> list[int]:
        account, directory = self.account(settings)
        return [self.customer(account, directory) for _ in range(count)]

    def group(self, *document_types: int, exempted: Cell = "false", note: Cell = None) -> int:
        """A new requirements group of the target, with a requirement for each document type (an id)."""
        group = self.new_id("group")
        self.ugly.add("RequirementsGroup", id=group)
        for document_type in document_types:
            requirement: Row = {"requirements_group_id": group, "document_type_id": document_type}
            marks: Row = {"id": self.new_id("docrequirement"), "is_exempted": exempted, "exemption_note": note}
            self.add("DocRequirement", requirement, marks)
        return group

    def vendor(self, *groups: int, **record_cells: Cell) -> int:
        """A new vendor with a record that is a member of `groups`."""
        vendor, record = self.new_id("vendor"), self.new_id("record")
        cells: Row = {"internal_id": None, "internal_id1": None, "metadata": None, **record_cells}
        self.add("Record", {"id": record}, cells)
        self.ugly.add("crosswalk_record", vendor_id=vendor, record_id=record)
        for group in groups:
            number = self.new_id("member")
            self.ugly.add("RequirementsGroupMember", id=number, record_id=record, requirements_group_id=group)
        return vendor

    def notify(self, **cells: Cell) -> int:
        """A notification row of a new customer, if none is given; returns its id."""
        number = self.new_id("notification")
        usual: Row = {"notification_id": number, "type": "COI", "send_hold": "HOLD", "user_id": FIRST_ID["user"]}
        owner: Row = {} if "customer_id" in cells else {"customer_id": self.customer()}
        self.add("notification", {**usual, **owner}, cells)
        return number

    def look_up(self, **cells: Cell) -> None:
        kinds = ("notification_id", "send_hold", "dow_bitmap")
        nothing = {f"{prefix}_{kind}": None for kind in kinds for prefix in ("coi", "doc")}
        self.add("notification_lookup", nothing, cells)

    def notified(self, **cells: Cell) -> int:
        customer = self.customer()
        self.notify(customer_id=customer, **cells)
        return customer

    def webhook(self, **cells: Cell) -> None:
        owner: Row = {} if "customer_id" in cells else {"customer_id": self.notified()}
        self.add("notification_webhook", {**owner, "type": "COI", "selector": "NONCOMP", "webhook": GOOD}, cells)

    def letter(self, **cells: Cell) -> None:
        owner: Row = {} if "customer_id" in cells else {"customer_id": self.customer()}
        usual: Row = {"type": "COI", "selector": "EXPIRED", "subject": "Insurance of __PH_NAME__"}
        body: Row = {"letter_body": "<p>Please renew, __PH_NAME__.</p>", "edit_time": "2019-05-06 07:08:09"}
        self.add("letter", {**owner, **usual, **body}, cells)

    def exempt(self, vendor: Cell = None, **cells: Cell) -> int:
        """A COI exemption, of a vendor with a group of its own if none is given; returns its id."""
        number = self.new_id("exemption")
        usual: Row = {
            "exemption_id": number,
            "vendor_id": self.vendor(self.group()) if vendor is None else vendor,
            "item_type": "COI",
            "item_name": "WC",
            "ExemptExpDate": "3000-01-01",
            "ExemptReason": "Sole proprietor",
            "ExemptReviewStatus": "COMPLIANT",
            "create_user_id": FIRST_ID["user"],
            "create_time": "2019-05-06 07:08:09",
            "requirements_id": None,
            "src": "PH",
        }
        self.add("exemption", usual, cells)
        return number

    def exempt_document(self, vendor: Cell = None, **cells: Cell) -> int:
        if vendor is None:
            vendor = self.vendor(self.group(FIRST_ID["document_type"]))
        return self.exempt(vendor, **{"item_type": "DOCUMENT", "item_name": "Business License", **cells})

    def numbered(self, table: str, usual: Row, cells: Row) -> int:
        """A row with a key of its own, unless it is given; returns the key."""
        number = self.new_id(table)
        self.add(table, {f"{table}_id": number, **usual}, cells)
        return number


def shared_lists(ugly: UglyRows) -> None:
    same: Row = {"user_id": FIRST_ID["user"], "target_user_id": FIRST_ID["target_user"]}
    ugly.add_row("crosswalk_user", same)  # the same twice: no contradiction
    ugly.add("crosswalk_user", user_id=FIRST_UGLY_ID, target_user_id=NOBODY)
    ugly.add("crosswalk_requirements", requirements_id=FIRST_UGLY_ID, coi_risk_profile_id=NOBODY)
    ugly.add("crosswalk_record", vendor_id=NO_ROOT, record_id=NOBODY)
    ugly.add("crosswalk_account", customer_id=NO_ROOT, account_id=NOBODY, directory_id=None)


# --- notifications ----------------------------------------------------------------------------------------------------


def notifications(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    for cells in rows.listed("notification"):
        rows.notify(**cells)
    for customer in rows.customers_of_one_account():  # the highest notification_id wins
        rows.notify(customer_id=customer)
    customer = rows.customer()
    named = rows.notify(customer_id=customer, CRFRRSetting="7")
    rows.notify(customer_id=customer, CRFRRSetting="21")
    rows.look_up(customer_id=customer, coi_notification_id=named)
    customer = rows.notified(CRFRRSetting="7")
    rows.notify(customer_id=customer, CRFRRSetting="21", CEFERTiming="Sometimes")  # rejected, so the other one wins
    customer = rows.customer()  # ids are compared as numbers
    for digits in ("99", "100"):
        rows.notify(customer_id=customer, notification_id=f"{digits}{FIRST_UGLY_ID}")
    for settings in (({}, {}), ({"CRFRRSetting": "7"}, {"CRFRRSetting": "10"})):  # one key, the same or other content
        key: Row = {"customer_id": rows.customer(), "notification_id": rows.new_id("notification")}
        for each in settings:
            rows.notify(**{**key, **each})

    for cells in rows.listed("overridden"):
        own = {name: cell for name, cell in cells.items() if not name.startswith(("coi_", "doc_"))}
        over = {name: cell for name, cell in cells.items() if name not in own}
        customer = rows.customer()
        number = rows.notify(customer_id=customer, **own)
        rows.look_up(customer_id=customer, coi_notification_id=number, **over)
    rows.look_up(customer_id=rows.notified(), coi_notification_id=NOBODY)  # names a row that is missing
    somebody = rows.notify()
    rows.look_up(customer_id=rows.notified(), coi_notification_id=somebody)  # names another customer's row
    customer = rows.customer()  # several lookup rows: the last one counts
    first, second = (rows.notify(customer_id=customer, CRFRRSetting=setting) for setting in ("7", "10"))
    rows.look_up(customer_id=customer, coi_notification_id=second, coi_send_hold="SEND")
    rows.look_up(customer_id=customer, coi_notification_id=first, coi_send_hold="HOLD")
    rows.look_up(customer_id=NOBODY, coi_notification_id=first)


def webhooks(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    for cells in rows.listed("webhook"):
        rows.webhook(**cells)
    rows.webhook(customer_id=rows.customer())
    customer = rows.notified(CRSRRSetting=None)
    rows.webhook(customer_id=customer, selector="REQUEST_REMIND_2")  # this stage has no schedule
    rows.webhook(customer_id=rows.notified(CNCFSetting="abc"))  # its notification row is rejected
    customer = rows.notified()
    for value in (GOOD, GOOD, php_addresses("another@example.com"), None):
        rows.webhook(customer_id=customer, selector="EXPIRED", webhook=value)
    for number, customer in enumerate(rows.customers_of_one_account(), start=1):
        rows.notify(customer_id=customer)
        addresses = php_addresses(f"customer{number}@example.com")
        rows.webhook(customer_id=customer, selector="EXPIRE_SOON", webhook=addresses)


def letters(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    for cells in rows.listed("letter"):
        rows.letter(**cells)
    rivals: Iterable[tuple[Cell, Cell]] = (
        ("2020-01-01 00:00:00", "2019-01-01 00:00:00"),
        ("2020-01-01 00:00:00", "2020-01-01 00:00:00"),
        (None, "2001-01-01 00:00:00"),
        ("never", None),
    )
    for edit_times in rivals:
        customer = rows.customer()
        for number, edit_time in enumerate(edit_times):
            rows.letter(customer_id=customer, letter_body=f"<p>Version {number}</p>", edit_time=edit_time)
    customer = rows.customer()  # wholly identical letters
    for _ in range(2):
        rows.letter(customer_id=customer)
    customer = rows.customer()  # an English letter beside a bilingual one that was edited later
    rows.letter(customer_id=customer, edit_time="2018-01-01 00:00:00")
    rows.letter(customer_id=customer, letter_body="<p>Please renew. Favor de renovar.</p>")
    for customer in rows.customers_of_one_account():
        rows.letter(customer_id=customer)


# --- exemptions -------------------------------------------------------------------------------------------------------


def exemptions(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    for cells in rows.listed("exemption"):
        rows.exempt(**cells)
    rows.exempt(rows.vendor(rows.group(), rows.group()))  # several groups: one override each
    shared = rows.group()
    rows.exempt(rows.vendor(shared))  # widened to three others
    for _ in range(3):
        rows.vendor(shared)
    for vendor in (rows.vendor(), NOBODY, NO_ROOT):  # a record in no group, and none at all
        rows.exempt(vendor)
    rows.exempt("", item_name="Cyber", ExemptReviewStatus="PENDING", ExemptExpDate="never", requirements_id=NOBODY)
    vendor = rows.vendor(rows.group())
    rows.exempt(vendor, exemption_id=rows.exempt(vendor))  # wholly identical
    number = rows.exempt(vendor, ExemptReason="first")
    rows.exempt(vendor, exemption_id=number, ExemptReason="second")  # the same key, other content
    rows.exempt(vendor, exemption_id=f"{rows.new_id('exemption')}.0")


def document_exemptions(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    license_type, tax_form = FIRST_ID["document_type"], FIRST_ID["document_type"] + 1
    for cells in rows.listed("document_exemption"):
        rows.exempt_document(**cells)
    rows.exempt_document(rows.vendor(), ExemptExpDate="2031-07-04")
    rows.exempt_document(NOBODY)
    for types in ((license_type, tax_form), (license_type, license_type)):  # one or both groups have the requirement
        rows.exempt_document(rows.vendor(*map(rows.group, types)))
    vendor = rows.vendor(rows.group(license_type))  # the highest id gives the note
    for reason in ("lower", "higher"):
        rows.exempt_document(vendor, ExemptReason=reason)
    shared = rows.group(license_type)
    rows.exempt_document(rows.vendor(shared), ExemptReason="widened")
    rows.vendor(shared)
    for note in ("by hand", None, "Sole proprietor"):  # somebody else marked these requirements already
        rows.exempt_document(rows.vendor(rows.group(license_type, exempted="true", note=note)))


# --- the other tables -------------------------------------------------------------------------------------------------


def reviewer_addresses(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    fixed: Row = {"type": QUOTED_EMPTY, "level": 0}
    for cells in rows.listed("reviewer_address"):
        owner: Row = {} if "customer_id" in cells else {"customer_id": rows.customer()}
        rows.numbered("reviewer_address", {**fixed, **owner}, cells)
    account, directory = rows.account()
    customer = rows.customer(account, directory)
    for email, kind in (("There@Example.com", "reviewer"), ("other@example.com", "primary")):
        ugly.add("AccountEmail", id=rows.new_id("accountemail"), account_id=account, email=email, email_type=kind)
    for addresses in (("there@example.com",), ("there@example.com", "OTHER@example.com"), ("other@example.com",)):
        written: Row = {"customer_id": customer, "email_string": php_addresses(*addresses)}
        rows.numbered("reviewer_address", fixed, written)


def repo_files(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    account, directory = rows.account()
    usual: Row = {
        "customer_id": rows.customer(account, directory),
        "name": "certificate.pdf",
        "vendor_id": FIRST_ID["vendor"],
        "status": "SUBMITTED",
        **dict.fromkeys(("certificate_id", "document_id", "attachment_id")),
        "upload_user_id": FIRST_ID["user"],
        "intake_date": "2019-05-06 07:08:09",
        "repo_filepath": "unlinked/certificate_01.pdf",
    }

    def file(**cells: Cell) -> int:
        return rows.numbered("repo_file", usual, cells)

    for status in ("DELETED", "deleted ", "MANUAL_ENTRY", "", None):
        file(status=status)
    unlinked = file(certificate_id=0, document_id="0")
    file(attachment_id=77)
    file(certificate_id=4_711)  # Area 4 should have handled these two and did not say so
    file(document_id=4_711)
    handled, nowhere = file(document_id=4_712), file(document_id=4_713)
    document = rows.new_id("document")
    ugly.add("Document", id=document, account_id=account)
    for number, made in ((handled, document), (nowhere, NOBODY)):
        ugly.add("crosswalk_repo_file", repo_file_id=number, target_model="Document", target_id=made)
    for cells in rows.listed("repo_file"):
        file(**cells)
    for long in ("x" * 200, "\u00e9" * 100):
        file(name=f"{long}.pdf")
    number = file(name="twice.pdf")
    for name in ("twice.pdf", "again.pdf"):
        file(repo_file_id=number, name=name)

    for upload in (unlinked, handled, NOBODY, None, ""):
        rows.numbered("imap_upload", {"repo_file_id": upload}, {"received_time": "2020-01-02 03:04:05"})
    again: Iterable[Row] = (
        {"received_time": "2021-01-02 03:04:05", "filename": "later.pdf"},
        {"received_time": "0000-00-00 00:00:00"},
        {"filesize": "1024.0"},
        {"filesize": "big"},
        {"sender": None, "filename": b"caf\xe9.pdf"},
    )
    for cells in again:  # the same file
        rows.numbered("imap_upload", {"repo_file_id": unlinked}, cells)


def envelopes(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    contact = phpserialize.dumps({"name": "Acme", "email": GOOD}).decode()
    owner: Row = {"customer_id": FIRST_ID["customer"], "vendor_id": FIRST_ID["vendor"]}
    usual: Row = {**owner, "event": "Voided", "clicks": 1, "vendor_data": contact}
    for value in (contact, phpserialize.dumps(contact).decode(), contact[:-5]):
        rows.numbered("envelope", usual, {"vendor_data": value})
    for cells in rows.listed("envelope"):
        rows.numbered("envelope", usual, cells)


def form_fields(ugly: UglyRows) -> None:
    rows = _Rows(ugly)
    usual: Row = {"customer_id": rows.customer(), "property_name": "custom_field_0"}

    def form_field(vendor: Cell, value: Cell, **cells: Cell) -> None:
        rows.numbered("form_field", {**usual, "vendor_id": vendor, "value": value}, cells)

    one, two = rows.vendor(), rows.vendor()
    for vendor in (one, two):
        form_field(vendor, "agreed", property_name="custom_field_1")
    form_field(one, "differs", property_name="custom_field_2")
    form_field(two, "from this", property_name="custom_field_2")
    form_field(one, "earlier")
    form_field(one, "later")  # the same vendor and property again
    form_field(two, None)
    form_field(two, "")
    form_field(NOBODY, "no record")
    form_field(two, "no account", customer_id=NOBODY)
    form_field(rows.vendor(internal_id="by hand"), "conflict")
    form_field(rows.vendor(internal_id="equal"), "equal")
    form_field(rows.vendor(), " unknown property ", property_name="expiry_date")
    form_field(rows.vendor(), b"caf\xe9")


def keywords(ugly: UglyRows) -> None:
    rows = _Rows(ugly)

    def rename(customer: int, replacement: Cell, name: str = "GROUP_NAME") -> None:
        ugly.add("keyword", customer_id=customer, keyword=name, replacement=replacement)

    customer = rows.customer()
    rename(customer, None)
    rename(customer, "", "CUSTOM_FIELD_2")
    rename(customer, "first", "CUSTOM_FIELD_1")
    rename(customer, "second", "CUSTOM_FIELD_1")
    rename(customer, 'Lease #, "Unit"\r\nand suite', "CUSTOM_FIELD_3")
    rename(NOBODY, "no account")
    rename(rows.customer(rows.account()[0]), "no directory")
    [customer] = rows.customers_of_one_account(1, '{"labels": {"GROUP_NAME": "by hand"}, "theme": "dark"}')
    rename(customer, "conflict")
    one, other = rows.customers_of_one_account(2, None)
    rename(one, "one customer's")
    rename(other, "the other's")


def vornado_leases(ugly: UglyRows) -> None:
    rows = _Rows(ugly)

    def lease(vendor: Cell, start: Cell, end: Cell, tenant: Cell = "t-ugly") -> None:
        dates: Row = {"Lease Start": start, "Lease End": end}
        rows.add("vornado_feed", {"PH_ID": vendor, "Property Code": "P999", "Tenant ID": tenant}, dates)

    for cells in rows.listed("vornado_feed"):
        lease(cells["PH_ID"], cells["Lease Start"], cells["Lease End"])
    vendor = rows.vendor()
    lease(vendor, "01/01/2022", "12/31/2050", "second")
    lease(vendor, "06/30/2012", "12/31/2021", "first")
    lease(rows.vendor(metadata='{"vornado": []}'), "01/01/2020", "12/31/2025")
    lease(rows.vendor(metadata='{"imported": true}'), "1/2/2020", "12/31/25")
    lease(rows.vendor(), "2020-01-01", "02/30/2021")
    lease(rows.vendor(), None, "")


def archived(ugly: UglyRows) -> None:
    """Tables that go to the archive only: what is hard to write and to read back."""
    for cells in ugly.listed("archived"):
        ugly.add_row(str(cells["table"]), {name: cell for name, cell in cells.items() if name != "table"})


CASES: tuple[Case, ...] = (
    *(shared_lists, notifications, webhooks, letters, exemptions, document_exemptions, reviewer_addresses),
    *(repo_files, envelopes, form_fields, keywords, vornado_leases, archived),
)
