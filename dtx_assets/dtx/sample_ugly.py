"""Ugly rows of the sample: every case that sections 1.2 and 4.1 to 4.6 of the contract name, at least once.

A row is what differs from a plausible row of its table. Each case has a customer, vendor or file of its own wherever
one fault could hide another. Plausible rows are in `sample_rows`; writing files is in `sample`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dtx_assets.dtx.sample_rows import FIRST_ID, Sample, make_rows
from dtx_assets.dtx.system import SYSTEM

FIRST_UGLY_ID = 900_000_001
"""Beyond every id of plausible rows, so that ugly rows are the same in a sample of any size."""

NOBODY = 999_999_999
"""An id that nothing has."""


@dataclass(frozen=True)
class Verbatim:
    """Bytes that stand in the CSV as they are, quotes included."""

    written: bytes


Cell = str | int | bytes | Verbatim | None
Row = Mapping[str, Cell]

UNQUOTED_NULL = Verbatim(b"NULL")
QUOTED_NULL = Verbatim(b'"NULL"')
QUOTED_BACKSLASH_N = Verbatim(rb'"\N"')
QUOTED_EMPTY = Verbatim(b'""')


@dataclass
class UglyRows:
    """Collects ugly rows by table, and what other areas must have for them."""

    sample: Sample
    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    _usual: dict[str, Row] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def new_id(self, kind: str) -> int:
        self._used[kind] += 1
        return FIRST_UGLY_ID + self._used[kind] - 1

    def add(self, table: str, **cells: Cell) -> None:
        """A row that is as usual but for `cells`; one whose names are not identifiers goes through `add_row`."""
        self.add_row(table, cells)

    def add_row(self, table: str, cells: Row) -> None:
        if table not in self._usual:
            self._usual[table] = make_rows(self.sample, table, 0, 100).row(0, named=True)
        unknown = cells.keys() - self._usual[table].keys()
        if unknown:
            raise KeyError(f"{table} has no column {', '.join(sorted(unknown))}")
        self.tables[table].append({**self._usual[table], **cells})

    def account(self, settings: Cell = "{}") -> tuple[int, int]:
        """A new root account of the target and its directory: their ids."""
        account, directory = self.new_id("account"), self.new_id("directory")
        self.add("docutrax_hierarchy_account", id=account)
        self.add("docutrax_hierarchy_directory", id=directory, settings=settings)
        return account, directory

    def customer(self, account: int | None = None, *, directory: int | None = None) -> int:
        """A new customer with an account: an own one unless `account` is given."""
        customer = self.new_id("customer")
        if account is None:
            account, directory = self.account()
        self.add("crosswalk_account", customer_id=customer, account_id=account, directory_id=directory)
        return customer

    def requirements_group(self, document_types: Sequence[int] = ()) -> int:
        """A new group of the target, with a requirement for each document type (an id)."""
        group = self.new_id("group")
        self.add("docutrax_profiles_requirementsgroup", id=group)
        for document_type in document_types:
            self.add(
                "docutrax_profiles_docrequirement",
                id=self.new_id("docrequirement"),
                requirements_group_id=group,
                document_type_id=document_type,
                is_exempted="false",
                exemption_note=None,
            )
        return group

    def vendor(self, *groups: int, **record_cells: Cell) -> int:
        """A new vendor with a record that is a member of `groups`."""
        vendor, record = self.new_id("vendor"), self.new_id("record")
        cells: Row = {"internal_id": None, "internal_id1": None, "metadata": None, **record_cells}
        self.add_row("docutrax_hierarchy_record", {"id": record, **cells})
        self.add("crosswalk_record", vendor_id=vendor, record_id=record)
        for group in groups:
            self.add(
                "docutrax_profiles_requirementsgroupmember",
                id=self.new_id("member"),
                record_id=record,
                requirements_group_id=group,
            )
        return vendor


def php_addresses(*addresses: str) -> str:
    items = "".join(f'i:{number};s:{len(each.encode())}:"{each}";' for number, each in enumerate(addresses))
    return f"a:{len(addresses)}:{{{items}}}"


def ugly_rows(sample: Sample) -> dict[str, list[Row]]:
    """All ugly rows by table: legacy tables, crosswalks and target rows of other areas."""
    ugly = UglyRows(sample)
    for add in (
        _shared_lists,
        _notifications,
        _competing_notifications,
        _lookups,
        _webhooks,
        _letters,
        _exemptions,
        _document_exemptions,
        _reviewer_addresses,
        _repo_files,
        _envelopes,
        _form_fields,
        _keywords,
        _vornado_feed,
        _archived,
    ):
        add(ugly)
    return dict(ugly.tables)


def _shared_lists(ugly: UglyRows) -> None:
    usual_user, usual_target_user = FIRST_ID["user"], FIRST_ID["target_user"]
    ugly.add("crosswalk_user", user_id=usual_user, target_user_id=usual_target_user)  # the same twice: no contradiction
    ugly.add("crosswalk_user", user_id=FIRST_UGLY_ID, target_user_id=NOBODY)
    ugly.add("crosswalk_requirements", requirements_id=FIRST_UGLY_ID, coi_risk_profile_id=NOBODY)
    ugly.add("crosswalk_record", vendor_id=FIRST_UGLY_ID + 900, record_id=NOBODY)
    ugly.add("crosswalk_account", customer_id=FIRST_UGLY_ID + 900, account_id=NOBODY, directory_id=None)


# --- notifications ----------------------------------------------------------------------------------------------------


def _notify(ugly: UglyRows, **cells: Cell) -> int:
    """A notification row of a new customer, if none is given; returns its id."""
    number = ugly.new_id("notification")
    usual: dict[str, Cell] = {
        "notification_id": number,
        "type": "COI",
        "send_hold": "HOLD",
        "user_id": FIRST_ID["user"],
    }
    if "customer_id" not in cells:
        usual["customer_id"] = ugly.customer()
    ugly.add_row("notification", {**usual, **cells})
    return number


def _notifications(ugly: UglyRows) -> None:
    for send_hold in ("hold", "Send ", "", "MAYBE", None, UNQUOTED_NULL, QUOTED_NULL):
        _notify(ugly, send_hold=send_hold)
    for kind in ("coi", " Document ", "FAX", "", None):
        _notify(ugly, type=kind)
    for setting in ("-1", "3651", "abc", "14.5", "1e1", "14.0", "0", "3650", "", UNQUOTED_NULL, "99999999999999999999"):
        _notify(ugly, CRSRRSetting=setting)
    for timing in ("before", "AFTER", "Sometimes", "", None, QUOTED_NULL):
        _notify(ugly, CEEXPTiming=timing)
    _notify(ugly, CESERSetting=None, CESERTiming=None)
    for bitmap in (128, -1, 0, None, 62, 127, 42, "32.0", "every day"):
        _notify(ugly, dow_bitmap=bitmap)
    for create_time in (
        "0000-00-00 00:00:00",
        "yesterday",
        "2019-02-30 10:00:00",
        "2019-03-04 05:06:07.123456",
        "2019-03-04",
        None,
    ):
        _notify(ugly, create_time=create_time)
    for user in (NOBODY, FIRST_UGLY_ID, None, f"{FIRST_ID['user']}.0"):
        _notify(ugly, user_id=user)

    # What the type does not read, nothing looks at.
    _notify(ugly, DRFRRSetting="abc", DRNRAlertSetting="-5")
    _notify(ugly, type="DOCUMENT", CRFRRSetting="abc", CRRestartSetting="-5")
    _notify(ugly, type="FAX", CRFRRSetting="abc", send_hold="MAYBE")
    settings = [name for name in SYSTEM.legacy_tables["notification"].columns if name.endswith("Setting")]
    _notify(ugly, **dict.fromkeys(settings))

    _notify(ugly, customer_id=NOBODY)
    _notify(ugly, customer_id=FIRST_UGLY_ID + 900)
    _notify(ugly, customer_id=None)
    _notify(ugly, customer_id=NOBODY, CRFRRSetting="abc", CEEXPTiming="Sometimes", send_hold="MAYBE")


def _competing_notifications(ugly: UglyRows) -> None:
    account, directory = ugly.account()
    for _ in range(2):  # two customers of one account: the highest notification_id wins
        _notify(ugly, customer_id=ugly.customer(account, directory=directory))

    customer = ugly.customer()
    named = _notify(ugly, customer_id=customer, CRFRRSetting="7")
    _notify(ugly, customer_id=customer, CRFRRSetting="21")
    _look_up(ugly, customer_id=customer, coi_notification_id=named)

    customer = ugly.customer()
    _notify(ugly, customer_id=customer, CRFRRSetting="7")
    _notify(ugly, customer_id=customer, CRFRRSetting="21", CEFERTiming="Sometimes")  # rejected, so the other one wins

    customer = ugly.customer()  # ids are compared as numbers
    for number in ("99", "100"):
        _notify(ugly, customer_id=customer, notification_id=f"{number}{FIRST_UGLY_ID}")

    same: dict[str, Cell] = {"customer_id": ugly.customer(), "notification_id": ugly.new_id("notification")}
    for _ in range(2):
        _notify(ugly, **same)
    changed: dict[str, Cell] = {"customer_id": ugly.customer(), "notification_id": ugly.new_id("notification")}
    for setting in ("7", "10"):
        _notify(ugly, **changed, CRFRRSetting=setting)


def _look_up(ugly: UglyRows, **cells: Cell) -> None:
    nothing: dict[str, Cell] = {
        "coi_notification_id": None,
        "doc_notification_id": None,
        "coi_send_hold": None,
        "doc_send_hold": None,
        "coi_dow_bitmap": None,
        "doc_dow_bitmap": None,
    }
    ugly.add_row("notification_lookup", {**nothing, **cells})


def _lookups(ugly: UglyRows) -> None:
    for own, over in (("HOLD", "SEND"), ("SEND", "hold"), ("MAYBE", "SEND"), ("SEND", "PAUSE"), ("SEND", "")):
        customer = ugly.customer()
        number = _notify(ugly, customer_id=customer, send_hold=own)
        _look_up(ugly, customer_id=customer, coi_notification_id=number, coi_send_hold=over)
    customer = ugly.customer()  # the override of DOCUMENT rows does not concern COI rows
    number = _notify(ugly, customer_id=customer, send_hold="SEND")
    _look_up(ugly, customer_id=customer, coi_notification_id=number, doc_send_hold="HOLD")
    for bitmap in (62, 200, 0):
        customer = ugly.customer()
        number = _notify(ugly, customer_id=customer, dow_bitmap=32)
        _look_up(ugly, customer_id=customer, coi_notification_id=number, coi_dow_bitmap=bitmap)

    customer = ugly.customer()
    _notify(ugly, customer_id=customer)
    _look_up(ugly, customer_id=customer, coi_notification_id=NOBODY)  # names a row that is missing
    somebody = _notify(ugly)
    customer = ugly.customer()
    _notify(ugly, customer_id=customer)
    _look_up(ugly, customer_id=customer, coi_notification_id=somebody)  # names another customer's row

    customer = ugly.customer()  # several lookup rows: the last one counts
    first = _notify(ugly, customer_id=customer, CRFRRSetting="7")
    second = _notify(ugly, customer_id=customer, CRFRRSetting="10")
    _look_up(ugly, customer_id=customer, coi_notification_id=second, coi_send_hold="SEND")
    _look_up(ugly, customer_id=customer, coi_notification_id=first, coi_send_hold="HOLD")
    _look_up(ugly, customer_id=NOBODY, coi_notification_id=first)


def _webhooks(ugly: UglyRows) -> None:
    def webhook(value: Cell, *, customer: int | None = None, kind: Cell = "COI", selector: Cell = "NONCOMP") -> None:
        if customer is None:
            customer = ugly.customer()
            _notify(ugly, customer_id=customer)
        ugly.add("notification_webhook", customer_id=customer, type=kind, selector=selector, webhook=value)

    good = php_addresses("good@example.com")
    for empty in (None, UNQUOTED_NULL, "", QUOTED_EMPTY, "N;", "a:0:{}"):
        webhook(empty)
    for readable in (
        's:16:"good@example.com";',
        'a:2:{s:2:"to";s:16:"good@example.com";s:2:"cc";a:1:{i:5;s:18:"nested@example.com";}}',
        php_addresses(" Upper.Case@EXAMPLE.com ", "upper.case@example.com"),
        php_addresses("jürgen@bücher.example.com", "日本@example.com"),
        'a:2:{i:0;s:16:"good@example.com";i:1;R:2;}',
        php_addresses("\tpadded@example.com\r\n"),
    ):
        webhook(readable)
    for unreadable in (
        "i:5;",
        "b:1;",
        "d:0.5;",
        'O:8:"stdClass":1:{s:5:"email";s:16:"good@example.com";}',
        'a:1:{i:0;O:8:"stdClass":0:{}}',
        good + "x",
        good + "\n",
        good[:-8],
        'a:1:{i:0;s:21:"jürgen@bücher.example";}',  # counted in characters
        'a:2:{i:0;s:16:"good@example.com";}',
        "good@example.com",
        b'a:1:{i:0;s:18:"j\xfcrgen@example.com";}',
        b'a:1:{i:0;s:17:"good\x00@example.com";}',
    ):
        webhook(unreadable)
    for partly in (
        php_addresses("good@example.com", "no-at-sign", "a@b", "two@@example.com"),
        'a:2:{i:0;s:16:"good@example.com";i:1;i:7;}',
        php_addresses("good@example.com", "with blank@example.com", "x@.com", "x@com."),
    ):
        webhook(partly)
    for invalid in (
        php_addresses("no-at-sign"),
        php_addresses("a@b", "@example.com", "", " "),
        's:0:"";',
        "a:1:{i:0;a:0:{}}",
        "a:1:{i:0;N;}",
    ):
        webhook(invalid)

    webhook(good, selector="WHO_KNOWS")
    webhook(good, selector="noncomp_remind_1 ")
    webhook(good, selector=None)
    webhook(good, kind="REVIEW")
    webhook(good, kind="coi")
    webhook(good, kind="DOCUMENT")  # the customer has a COI row only
    webhook(good, customer=NOBODY)
    webhook(good, customer=FIRST_UGLY_ID + 900)
    webhook("O:1:", customer=NOBODY, kind="REVIEW", selector="WHO_KNOWS")
    webhook("", customer=NOBODY, kind="REVIEW", selector="WHO_KNOWS")  # empty ones are dropped first
    webhook(good, customer=ugly.customer())
    customer = ugly.customer()
    _notify(ugly, customer_id=customer, CRSRRSetting=None)
    webhook(good, customer=customer, selector="REQUEST_REMIND_2")  # this stage has no schedule
    customer = ugly.customer()
    _notify(ugly, customer_id=customer, CNCFSetting="abc")
    webhook(good, customer=customer)  # its notification row is rejected

    customer = ugly.customer()
    _notify(ugly, customer_id=customer)
    for value in (good, good, php_addresses("another@example.com"), None):
        webhook(value, customer=customer, selector="EXPIRED")
    account, directory = ugly.account()
    for number in (1, 2):
        customer = ugly.customer(account, directory=directory)
        _notify(ugly, customer_id=customer)
        webhook(php_addresses(f"customer{number}@example.com"), customer=customer, selector="EXPIRE_SOON")


def _letters(ugly: UglyRows) -> None:
    def letter(body: Cell, *, customer: int | None = None, **cells: Cell) -> None:
        usual: dict[str, Cell] = {
            "customer_id": customer or ugly.customer(),
            "type": "COI",
            "selector": "EXPIRED",
            "subject": "Insurance of __PH_NAME__",
            "edit_time": "2019-05-06 07:08:09",
        }
        ugly.add_row("letter", {**usual, "letter_body": body, **cells})

    plain = "<p>Please renew, __PH_NAME__.</p>"
    for body in (
        "<p>__SO_CITY____SO_STATE____SO_ZIPCODE__</p>",
        "<p>___DATE__ and __DATE___ and ____DATE____</p>",
        "<p>__[DATE]__ __(Hello)__ a__b__c __date__ __DATE_ _DATE__ __SO__NAME__ __A__B__ ____</p>",
        "<style>td { color: red; } .x{}</style><p>__DATE__</p>",
        "<p>{DATE} was no macro; __DATE__ is.</p>",
        "<p>__UNKNOWN_MACRO__ and __PH_FAX2__</p>",
        "<p>Favor de enviarle esta solicitud a su agente de seguros. __PH_NAME__</p>",
        "<p>ESTIMADO PROVEEDOR: SU P\u00d3LIZA VENCE EL __DATE__</p>",
        "<p>Favor<br>de renovar su p&oacute;liza.</p>",
        '<p title="Favor de">No Spanish in the text. __DATE__</p>',
        "<p>Please forward this to your agent.</p><p>Favor de enviarle esta solicitud a su agente de seguros.</p>",
        "",
        Verbatim(b'"<p>\r\n__DATE__\r\n""quoted"", and a comma\r\n</p>"'),
        "<p>\u2603 caf\u00e9 \U0001f4c4 __SO_NAME__</p>",
        b"<p>caf\xe9 in Latin-1 __DATE__</p>",
        b"<p>a NUL \x00 inside __DATE__</p>",
        None,
        QUOTED_BACKSLASH_N,
    ):
        letter(body)
    for subject in (None, "", "__DATE__ {DATE} __SO_NAME____PH_NAME__", b"caf\xe9"):
        letter(plain, subject=subject)
    for kind in (None, "", "coi ", "DOCUMENT"):
        letter(plain, type=kind)
    for selector in (None, "", "SOMETHING_ELSE"):
        letter(plain, selector=selector)
    for edit_time in (None, "0000-00-00 00:00:00", "last week"):
        letter(plain, edit_time=edit_time)
    letter(plain, customer=NOBODY)
    letter(plain, customer=FIRST_UGLY_ID + 900, type=None)

    def rivals(*edit_times: Cell) -> None:
        customer = ugly.customer()
        for number, edit_time in enumerate(edit_times):
            letter(f"<p>Version {number}</p>", customer=customer, edit_time=edit_time)

    rivals("2020-01-01 00:00:00", "2019-01-01 00:00:00")
    rivals("2020-01-01 00:00:00", "2020-01-01 00:00:00")
    rivals(None, "2001-01-01 00:00:00")
    rivals("never", None)
    customer = ugly.customer()  # wholly identical letters
    for _ in range(2):
        letter(plain, customer=customer)
    customer = ugly.customer()  # an English letter beside a bilingual one that was edited later
    letter(plain, customer=customer, edit_time="2018-01-01 00:00:00")
    letter("<p>Please renew. Favor de renovar.</p>", customer=customer)
    account, directory = ugly.account()
    for _ in range(2):
        letter(plain, customer=ugly.customer(account, directory=directory))


# --- exemptions -------------------------------------------------------------------------------------------------------


def _exempt(ugly: UglyRows, vendor: Cell = None, **cells: Cell) -> int:
    """A COI exemption, of a vendor with a group of its own if none is given; returns its id."""
    number = ugly.new_id("exemption")
    usual: dict[str, Cell] = {
        "exemption_id": number,
        "vendor_id": ugly.vendor(ugly.requirements_group()) if vendor is None else vendor,
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
    ugly.add_row("exemption", {**usual, **cells})
    return number


def _exemptions(ugly: UglyRows) -> None:
    for name in (
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
        "wc",
        "Liquor Liability",
        "Cyber",
        "",
        None,
    ):
        _exempt(ugly, item_name=name)
    for date in (
        "3000-01-01",
        "3000-01-01 00:00:00",
        "2050-01-01",
        "2050-12-31 00:00:00",
        "2099-12-31",
        "9999-12-31",
        "2051-01-01",
        "2031-07-04",
        "2019-07-04",
        "0000-00-00",
        "0000-00-00 00:00:00",
        "never",
        "2021-02-30",
        "07/04/2031",
        "2031-7-4",
        "2031-07-04 12:00:00",
        "2050-13-01",
        "",
        None,
    ):
        _exempt(ugly, ExemptExpDate=date)
    for reason in (
        "trailing blank ",
        "  leading stays\t\r\n",
        "   ",
        "",
        None,
        'says "no", twice\r\nand again',
        "Jos\u00e9",
    ):
        _exempt(ugly, ExemptReason=reason)
    _exempt(ugly, ExemptReason=b"caf\xe9")
    _exempt(ugly, ExemptReason=b"a NUL \x00 inside")
    for status in ("compliant", " COMPLIANT ", "PENDING", "", None):
        _exempt(ugly, ExemptReviewStatus=status)
    for item_type in ("coi ", "OTHER", "", None):
        _exempt(ugly, item_type=item_type)
    for user in (NOBODY, FIRST_UGLY_ID, None):
        _exempt(ugly, create_user_id=user)
    for create_time in ("0000-00-00 00:00:00", "soon", None):
        _exempt(ugly, create_time=create_time)
    for requirements in (
        FIRST_ID["requirements"],
        f"{FIRST_ID['requirements']}.0",
        NOBODY,
        FIRST_UGLY_ID,
        "",
        "twelve",
    ):
        _exempt(ugly, requirements_id=requirements)

    first, second = ugly.requirements_group(), ugly.requirements_group()
    _exempt(ugly, ugly.vendor(first, second))  # several groups: one override each
    shared = ugly.requirements_group()
    _exempt(ugly, ugly.vendor(shared))  # widened to three others
    for _ in range(3):
        ugly.vendor(shared)
    _exempt(ugly, ugly.vendor())  # a record in no group
    _exempt(ugly, NOBODY)
    _exempt(ugly, FIRST_UGLY_ID + 900)
    _exempt(ugly, "", item_name="Cyber", ExemptReviewStatus="PENDING", ExemptExpDate="never", requirements_id=NOBODY)

    vendor = ugly.vendor(ugly.requirements_group())
    number = _exempt(ugly, vendor)
    _exempt(ugly, vendor, exemption_id=number)  # wholly identical
    number = _exempt(ugly, vendor, ExemptReason="first")
    _exempt(ugly, vendor, exemption_id=number, ExemptReason="second")  # the same key, other content
    _exempt(ugly, vendor, exemption_id=f"{ugly.new_id('exemption')}.0")


def _document_exemptions(ugly: UglyRows) -> None:
    license_type, tax_form = FIRST_ID["document_type"], FIRST_ID["document_type"] + 1

    def exempt_document(vendor: int | None = None, **cells: Cell) -> int:
        if vendor is None:
            vendor = ugly.vendor(ugly.requirements_group([license_type]))
        return _exempt(ugly, vendor, **{"item_type": "DOCUMENT", "item_name": "Business License", **cells})

    for name in ("Business License", " business LICENSE", "Business Lic.", "W-9", "No Such Document", "", None):
        exempt_document(item_name=name)
    for date in ("2031-07-04", "2019-07-04", "2050-06-30", "2099-12-31", None, "0000-00-00", "never"):
        exempt_document(ExemptExpDate=date)
    exempt_document(ExemptExpDate="2031-07-04", ExemptReason="")
    exempt_document(ExemptExpDate="3000-01-01", ExemptReason=None)
    exempt_document(ExemptReason="with trailing blanks   ", ExemptExpDate="2031-07-04")
    exempt_document(item_type="document ", ExemptReviewStatus="PENDING")
    exempt_document(requirements_id=NOBODY)  # concerns COI only
    # Expired: nothing else of the row matters.
    exempt_document(ExemptExpDate="2019-07-04", item_name="No Such Document", ExemptReviewStatus="PENDING")
    exempt_document(ugly.vendor(), ExemptExpDate="2031-07-04")
    exempt_document(NOBODY)

    vendor = ugly.vendor(ugly.requirements_group([license_type]), ugly.requirements_group([tax_form]))
    exempt_document(vendor)  # one of two groups has the requirement
    vendor = ugly.vendor(ugly.requirements_group([license_type]), ugly.requirements_group([license_type]))
    exempt_document(vendor)  # both have it
    vendor = ugly.vendor(ugly.requirements_group([license_type]))  # the highest id gives the note
    low, high = exempt_document(vendor, ExemptReason="lower"), exempt_document(vendor, ExemptReason="higher")
    assert low < high
    shared = ugly.requirements_group([license_type])
    exempt_document(ugly.vendor(shared), ExemptReason="widened")
    ugly.vendor(shared)

    # Somebody else marked these requirements already.
    for exempted, note in (("true", "by hand"), ("true", None), ("true", "Sole proprietor")):
        group = ugly.requirements_group()
        ugly.add(
            "docutrax_profiles_docrequirement",
            id=ugly.new_id("docrequirement"),
            requirements_group_id=group,
            document_type_id=license_type,
            is_exempted=exempted,
            exemption_note=note,
        )
        exempt_document(ugly.vendor(group))


# --- the other tables -------------------------------------------------------------------------------------------------


def _reviewer_addresses(ugly: UglyRows) -> None:
    def review(value: Cell, customer: int | None = None) -> None:
        number = ugly.new_id("reviewer_address")
        ugly.add(
            "reviewer_address",
            reviewer_address_id=number,
            customer_id=customer or ugly.customer(),
            email_string=value,
            type=QUOTED_EMPTY,
            level=0,
        )

    for value in (
        None,
        "",
        "N;",
        "a:0:{}",
        's:16:"good@example.com";',
        php_addresses("good@example.com", "no-at-sign"),
        php_addresses("no-at-sign"),
        'O:8:"stdClass":0:{}',
        php_addresses("good@example.com") + "x",
    ):
        review(value)
    review(php_addresses("good@example.com"), NOBODY)
    account, directory = ugly.account()
    customer = ugly.customer(account, directory=directory)
    for email, email_type in (("There@Example.com", "reviewer"), ("other@example.com", "primary")):
        ugly.add(
            "docutrax_hierarchy_accountemail",
            id=ugly.new_id("accountemail"),
            account_id=account,
            email=email,
            email_type=email_type,
        )
    review(php_addresses("there@example.com"), customer)
    review(php_addresses("there@example.com", "OTHER@example.com"), customer)
    review(php_addresses("other@example.com"), customer)


def _repo_files(ugly: UglyRows) -> None:
    customer = ugly.customer()
    account = ugly.tables["docutrax_hierarchy_account"][-1]["id"]

    def file(**cells: Cell) -> int:
        number = ugly.new_id("repo_file")
        usual: dict[str, Cell] = {
            "repo_file_id": number,
            "customer_id": customer,
            "name": "certificate.pdf",
            "vendor_id": FIRST_ID["vendor"],
            "status": "SUBMITTED",
            "certificate_id": None,
            "document_id": None,
            "attachment_id": None,
            "upload_user_id": FIRST_ID["user"],
            "intake_date": "2019-05-06 07:08:09",
            "repo_filepath": "unlinked/certificate_01.pdf",
        }
        ugly.add_row("repo_file", {**usual, **cells})
        return number

    for status in ("DELETED", "deleted ", "MANUAL_ENTRY", "", None):
        file(status=status)
    unlinked = file(certificate_id=0, document_id="0")
    file(attachment_id=77)
    file(certificate_id=4_711)  # Area 4 should have handled these two and did not say so
    file(document_id=4_711)
    handled, nowhere = file(document_id=4_712), file(document_id=4_713)
    document = ugly.new_id("document")
    ugly.add("docutrax_profiles_document", id=document, account_id=account)
    ugly.add("crosswalk_repo_file", repo_file_id=handled, target_model="Document", target_id=document)
    ugly.add("crosswalk_repo_file", repo_file_id=nowhere, target_model="Document", target_id=NOBODY)
    paths: tuple[Cell, ...] = (
        "../outside.pdf",
        "unlinked/../../outside.pdf",
        "/etc/hostname",
        "unlinked/../unlinked/certificate_01.pdf",
        b"unlinked/a\x00b.pdf",
        "unlinked/no_such_file.pdf",
        "unlinked",
        "",
        None,
        "unlinked/r\u00e9sum\u00e9 & co.pdf",
        "unlinked/empty.txt",
    )
    for path in paths:
        file(repo_filepath=path)
    for name in (
        "C:\\scans\\policy.pdf",
        "a/b/c.pdf",
        "bell\x07and\ttab.pdf",
        "x" * 200 + ".pdf",
        "\u00e9" * 100 + ".pdf",
        "folder/",
        "",
        None,
        "..",
    ):
        file(name=name)
    file(customer_id=NOBODY)
    for vendor in (NOBODY, None):
        file(vendor_id=vendor)
    for user in (NOBODY, None):
        file(upload_user_id=user)
    for taken_in in ("0000-00-00 00:00:00", "2019-05-06", None):
        file(intake_date=taken_in)
    number = file(name="twice.pdf")
    file(repo_file_id=number, name="twice.pdf")
    file(repo_file_id=number, name="again.pdf")
    _imap_uploads(ugly, unlinked, handled)


def _envelopes(ugly: UglyRows) -> None:
    def envelope(value: Cell, **cells: Cell) -> None:
        number = ugly.new_id("envelope")
        usual: dict[str, Cell] = {
            "envelope_id": number,
            "customer_id": FIRST_ID["customer"],
            "vendor_id": FIRST_ID["vendor"],
            "event": "Voided",
            "clicks": 1,
        }
        ugly.add_row("envelope", {**usual, "vendor_data": value, **cells})

    emails = php_addresses("good@example.com")
    nested = f's:{len(emails)}:"{emails}";'
    contact = f'a:2:{{s:4:"name";s:4:"Acme";s:5:"email";{nested}}}'
    twice = f's:{len(contact)}:"{contact}";'
    for value in (
        contact,
        twice,
        f'a:2:{{s:4:"name";s:4:"Acme";s:5:"email";{emails}}}',
        'a:2:{s:4:"name";s:4:"Acme";s:5:"email";s:16:"good@example.com";}',
        'a:1:{s:4:"name";s:7:"Ca\u00f1\u00f3n";}',
        'a:2:{s:4:"name";s:4:"Acme";s:5:"email";s:9:"a:1:{i:0;";}',
        'O:6:"Vendor":0:{}',
        contact[:-5],
        "a:0:{}",
        "",
        None,
    ):
        envelope(value)
    for event in (None, "", "completed", "Opened"):
        envelope(contact, event=event)
    for clicks in ("", "3.0", "many", -1):
        envelope(contact, clicks=clicks)
    envelope(contact, vendor_id=NOBODY)
    envelope(contact, customer_id=NOBODY)
    envelope(contact, access_time="0000-00-00 00:00:00")
    envelope(contact, create_time="0000-00-00 00:00:00", update_time=None)


def _imap_uploads(ugly: UglyRows, unlinked: int, handled: int) -> None:
    def upload(file: Cell, **cells: Cell) -> None:
        number = ugly.new_id("imap_upload")
        ugly.add_row("imap_upload", {"imap_upload_id": number, "repo_file_id": file, **cells})

    for file in (unlinked, handled, NOBODY, None, ""):
        upload(file, received_time="2020-01-02 03:04:05")
    upload(unlinked, received_time="2021-01-02 03:04:05", filename="later.pdf")  # the same file again
    upload(unlinked, received_time="0000-00-00 00:00:00")
    upload(unlinked, filesize="1024.0")
    upload(unlinked, filesize="big")
    upload(unlinked, sender=None, filename=b"caf\xe9.pdf")


def _form_fields(ugly: UglyRows) -> None:
    customer = ugly.customer()

    def form_field(vendor: Cell, value: Cell, name: Cell = "custom_field_0", owner: Cell = customer) -> None:
        ugly.add(
            "form_field",
            form_field_id=ugly.new_id("form_field"),
            customer_id=owner,
            vendor_id=vendor,
            property_name=name,
            value=value,
        )

    one, two = ugly.vendor(), ugly.vendor()
    form_field(one, "agreed", "custom_field_1")
    form_field(two, "agreed", "custom_field_1")
    form_field(one, "differs", "custom_field_2")
    form_field(two, "from this", "custom_field_2")
    form_field(one, "earlier")
    form_field(one, "later")  # the same vendor and property again
    form_field(two, None)
    form_field(two, "")
    form_field(NOBODY, "no record")
    form_field(two, "no account", owner=NOBODY)
    form_field(ugly.vendor(internal_id="by hand"), "conflict")
    form_field(ugly.vendor(internal_id="equal"), "equal")
    form_field(ugly.vendor(), " unknown property ", "expiry_date")
    form_field(ugly.vendor(), b"caf\xe9")


def _keywords(ugly: UglyRows) -> None:
    def rename(customer: int, replacement: Cell, name: str = "GROUP_NAME") -> None:
        ugly.add("keyword", customer_id=customer, keyword=name, replacement=replacement)

    customer = ugly.customer()
    rename(customer, None)
    rename(customer, "", "CUSTOM_FIELD_2")
    rename(customer, "first", "CUSTOM_FIELD_1")
    rename(customer, "second", "CUSTOM_FIELD_1")
    rename(customer, 'Lease #, "Unit"\r\nand suite', "CUSTOM_FIELD_3")
    rename(NOBODY, "no account")
    account, _ = ugly.account()
    rename(ugly.customer(account), "no directory")
    account, directory = ugly.account('{"labels": {"GROUP_NAME": "by hand"}, "theme": "dark"}')
    rename(ugly.customer(account, directory=directory), "conflict")
    account, directory = ugly.account(None)
    for replacement in ("one customer's", "the other's"):
        rename(ugly.customer(account, directory=directory), replacement)


def _vornado_feed(ugly: UglyRows) -> None:
    def lease(vendor: Cell, start: Cell, end: Cell, tenant: Cell = "t-ugly") -> None:
        ugly.add_row(
            "vornado_feed",
            {"PH_ID": vendor, "Property Code": "P999", "Tenant ID": tenant, "Lease Start": start, "Lease End": end},
        )

    lease(-1, "01/01/2020", "12/31/2025")
    lease(NOBODY, "01/01/2020", "12/31/2025")
    lease("", "01/01/2020", "12/31/2025")
    vendor = ugly.vendor()
    lease(vendor, "01/01/2022", "12/31/2050", "second")
    lease(vendor, "06/30/2012", "12/31/2021", "first")
    lease(ugly.vendor(metadata='{"vornado": []}'), "01/01/2020", "12/31/2025")
    lease(ugly.vendor(metadata='{"imported": true}'), "1/2/2020", "12/31/25")
    lease(ugly.vendor(), "2020-01-01", "02/30/2021")
    lease(ugly.vendor(), None, "")


def _archived(ugly: UglyRows) -> None:
    """Tables that go to the archive only: what is hard to write and to read back."""
    ugly.add("notification_audit", create_time="0000-00-00 00:00:00", send_hold=b"\xff\xfe")
    ugly.add("messagequeue", message_id=ugly.new_id("message"), letter_body=Verbatim(b'"<p>\r\n""__DATE__""\r\n</p>"'))
    ugly.add("messagequeue", message_id=ugly.new_id("message"), letter_body=b"<p>caf\xe9\x00</p>", read_time=None)
    ugly.add("repo_file_audit", name='comma, "quote"\nand line break.pdf')
    ugly.add("repo_throughput", Snapshot=QUOTED_NULL)
    ugly.add_row("billing_data", {"# Active PH's": "1,234", "% Compliant": "99%", "Prepaid?": QUOTED_EMPTY})
    ugly.add_row("inactivated_billing_data", {"Fee / Month": "$12.50", "Customer's Note": 'said "bye", left'})
    for _ in range(2):
        ugly.add("lost_revenue", so_name="twice the same", lost_amount="12.50")
        ugly.add("prepay_so_list", customer_id=FIRST_ID["customer"])
        ugly.add("work_log", user_id=NOBODY, end_time=None)
