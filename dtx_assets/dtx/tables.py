"""The 21 legacy tables of Areas 8 and 11 and the five crosswalks of other areas: names, columns, keys, kinds.

`columns` holds what the plans and the contract name; more columns may turn up in the source and are kept. What a table
becomes is not here (`targets`, the flows), and neither is how one is read (`machinery.sources`).
"""

from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable

NOTIFICATIONS = "notifications"
FILE_REPOSITORY = "file_repository"
OTHER_AREAS = "other_areas"

AREAS = {
    NOTIFICATIONS: "Area 8: Notifications & Letters",
    FILE_REPOSITORY: "Area 11: File Repository & Misc",
    OTHER_AREAS: "Tables that other areas own",
}

_INTEGER_COLUMNS = frozenset({"dow_bitmap", "level", "clicks", "size", "filesize"})
_CODE_COLUMNS = frozenset({"type", "selector", "send_hold", "item_type", "ExemptReviewStatus", "status", "event"})


def column_kind(name: str) -> ColumnKind:
    """How the text of a legacy column is read; the rule is one of names and the same for every table."""
    if name.endswith(("_id", "Setting", "_dow_bitmap")) or name in _INTEGER_COLUMNS:
        return "integer"
    if name.endswith(("_send_hold", "Timing")) or name in _CODE_COLUMNS:
        return "code"
    if name.endswith("_time"):
        return "time"
    if name.endswith("_date") or name == "ExemptExpDate":
        return "date"
    return "text"


REQUEST_SETTINGS = ("CRFRRSetting", "CRSRRSetting", "CRNRAlertSetting", "CRRestartSetting")
EXPIRATION_SETTINGS = (
    "CESTESetting",
    "CEFERSetting",
    "CEFERTiming",
    "CEEXPSetting",
    "CEEXPTiming",
    "CESERSetting",
    "CESERTiming",
    "CEEXPAlertSetting",
    "CEEXPAlertTiming",
    "CERestartSetting",
)
NON_COMPLIANCE_SETTINGS = ("CNCFSetting", "CNCSSetting", "CNCAlertSetting", "CNCRestartSetting")
DOCUMENT_REQUEST_SETTINGS = ("DRFRRSetting", "DRSRRSetting", "DRNRAlertSetting")

_NOTIFICATION_COLUMNS = (
    "notification_id",
    "customer_id",
    "type",
    *REQUEST_SETTINGS,
    *EXPIRATION_SETTINGS,
    *NON_COMPLIANCE_SETTINGS,
    *DOCUMENT_REQUEST_SETTINGS,
    "send_hold",
    "dow_bitmap",
    "user_id",
    "create_time",
)

_REPO_FILE_COLUMNS = (
    "repo_file_id",
    "customer_id",
    "name",
    "treatment",
    "vendor_id",
    "status",
    "old_status",
    "certificate_id",
    "document_id",
    "attachment_id",
    "upload_src",
    "upload_email",
    "upload_user_id",
    "upload_ip",
    "intake_date",
    "repo_filepath",
    "ocr_event_id",
    "ocr_qa",
    "display",
    "supervisor",
    "autoextractable",
    "type",
    "size",
    "evt_userid",
    "evt_sessionid",
    "client_id",
)

_ENVELOPE_COLUMNS = (
    "envelope_id",
    "customer_id",
    "vendor_id",
    "event",
    "vendor_data",
    "clicks",
    "access_time",
    "create_time",
    "update_time",
)

_WEBHOOK_COLUMNS = ("customer_id", "type", "selector", "webhook")


def _table(
    name: str,
    area: str,
    decision: str,
    column_count: int,
    columns: tuple[str, ...],
    *,
    key: tuple[str, ...] = (),
    key_repeats: bool = False,
    required: tuple[str, ...] = (),
    personal: tuple[str, ...] = (),
    description: str,
) -> LegacyTable:
    return LegacyTable(
        name=name,
        area=area,
        columns=columns,
        key=key,
        key_repeats=key_repeats,
        required=required,
        column_count=column_count,
        description=description,
        decision=decision,
        kind_of=column_kind,
        personal=frozenset(personal),
    )


_TABLES = (
    _table(
        "notification",
        NOTIFICATIONS,
        "A8 #1",
        28,
        _NOTIFICATION_COLUMNS,
        key=("notification_id",),
        required=tuple(name for name in _NOTIFICATION_COLUMNS if name != "dow_bitmap"),
        description="Timing settings of a customer's reminders: one wide row for COI and one for DOCUMENT.",
    ),
    _table(
        "notification_webhook",
        NOTIFICATIONS,
        "A8 #1",
        4,
        _WEBHOOK_COLUMNS,
        key=("customer_id", "type", "selector"),
        key_repeats=True,
        required=_WEBHOOK_COLUMNS,
        personal=("webhook",),
        description="Who receives a reminder: PHP-serialised e-mail addresses by customer, type and selector.",
    ),
    _table(
        "notification_lookup",
        NOTIFICATIONS,
        "A8 #2",
        12,
        (
            "customer_id",
            "coi_notification_id",
            "doc_notification_id",
            "broker_id",
            "coi_send_hold",
            "doc_send_hold",
            "coi_dow_bitmap",
            "doc_dow_bitmap",
        ),
        key=("customer_id",),
        key_repeats=True,
        required=("customer_id", "coi_notification_id", "doc_notification_id", "coi_send_hold", "doc_send_hold"),
        description="Denormalised join of customers and notification rows; overrides send_hold and dow_bitmap.",
    ),
    _table(
        "notification_audit",
        NOTIFICATIONS,
        "A8 #3",
        25,
        tuple(name for name in _NOTIFICATION_COLUMNS if "Restart" not in name),
        description="BEFORE and AFTER snapshots of notification settings, from before the restart columns were added.",
    ),
    _table(
        "letter",
        NOTIFICATIONS,
        "A8 #4",
        9,
        (
            "customer_id",
            "type",
            "selector",
            "subject",
            "letter_body",
            "edit_time",
            "name",
            "addl_email",
            "internal_reference_name",
        ),
        key=("customer_id", "type", "selector"),
        key_repeats=True,
        required=("customer_id", "type", "selector", "subject", "letter_body", "edit_time"),
        personal=("subject", "letter_body", "name", "addl_email"),
        description="E-mail templates of a customer: HTML bodies with __PLACEHOLDER__ macros.",
    ),
    _table(
        "messagequeue",
        NOTIFICATIONS,
        "A8 #5",
        15,
        ("message_id", "vendor_id", "customer_id", "letter_body", "send_time", "read_time", "guid"),
        key=("message_id",),
        personal=("letter_body", "subject", "to_email", "cc_email", "from_email"),
        description="E-mails as they were sent, whole HTML bodies included, with a tracking GUID.",
    ),
    _table(
        "envelope",
        NOTIFICATIONS,
        "A8 #6",
        9,
        _ENVELOPE_COLUMNS,
        key=("envelope_id",),
        required=_ENVELOPE_COLUMNS,
        personal=("vendor_data",),
        description="What became of a compliance request: opened, clicked, completed, declined or voided.",
    ),
    _table(
        "repo_file",
        FILE_REPOSITORY,
        "A11 #1",
        27,
        _REPO_FILE_COLUMNS,
        key=("repo_file_id",),
        required=(
            "repo_file_id",
            "customer_id",
            "name",
            "vendor_id",
            "status",
            "certificate_id",
            "document_id",
            "upload_user_id",
            "intake_date",
            "repo_filepath",
        ),
        personal=("name", "upload_email", "upload_ip", "repo_filepath"),
        description="An uploaded file on EFS and the certificate or document it became.",
    ),
    _table(
        "repo_file_audit",
        FILE_REPOSITORY,
        "A11 #2",
        29,
        (),
        personal=("name", "upload_email", "upload_ip", "repo_filepath"),
        description="BEFORE and AFTER snapshots of repo_file.",
    ),
    _table(
        "repo_throughput",
        FILE_REPOSITORY,
        "A11 #3",
        19,
        (),
        personal=("Service Owner",),
        description="A computed snapshot of file processing by service owner; no primary key.",
    ),
    _table(
        "imap_upload",
        FILE_REPOSITORY,
        "A11 #4",
        10,
        ("imap_upload_id", "sender", "filename", "filesize", "repo_file_id", "received_time"),
        key=("imap_upload_id",),
        required=("imap_upload_id", "sender", "filename", "filesize", "repo_file_id", "received_time"),
        personal=("sender", "filename", "subject"),
        description="Files that came in by e-mail.",
    ),
    _table(
        "form_field",
        FILE_REPOSITORY,
        "A11 #5",
        17,
        ("form_field_id", "customer_id", "vendor_id", "form_name", "model_name", "property_name", "value"),
        key=("form_field_id",),
        required=("form_field_id", "customer_id", "vendor_id", "property_name", "value"),
        personal=("value",),
        description="Custom fields of a customer's vendors, with the value of each vendor.",
    ),
    _table(
        "keyword",
        FILE_REPOSITORY,
        "A11 #6",
        3,
        ("customer_id", "keyword", "replacement"),
        key=("customer_id", "keyword"),
        required=("customer_id", "keyword", "replacement"),
        description="Labels of the user interface that a customer renamed.",
    ),
    _table(
        "exemption",
        FILE_REPOSITORY,
        "A11 #7",
        11,
        (
            "exemption_id",
            "vendor_id",
            "item_type",
            "item_name",
            "ExemptExpDate",
            "ExemptReason",
            "ExemptReviewStatus",
            "create_user_id",
            "create_time",
            "requirements_id",
            "src",
        ),
        key=("exemption_id",),
        required=(
            "exemption_id",
            "vendor_id",
            "item_type",
            "item_name",
            "ExemptExpDate",
            "ExemptReason",
            "ExemptReviewStatus",
            "create_user_id",
            "create_time",
            "requirements_id",
        ),
        personal=("ExemptReason",),
        description="A vendor is exempt from a coverage (COI) or from a document (DOCUMENT), until a date or for good.",
    ),
    _table(
        "reviewer_address",
        FILE_REPOSITORY,
        "A11 #8",
        6,
        ("reviewer_address_id", "customer_id", "email_string", "type", "level"),
        key=("reviewer_address_id",),
        required=("reviewer_address_id", "customer_id", "email_string"),
        personal=("email_string",),
        description="Reviewers of a customer: a PHP-serialised array of e-mail addresses.",
    ),
    _table(
        "billing_data",
        FILE_REPOSITORY,
        "A11 #9",
        21,
        (),
        personal=("Service Owner",),
        description="A snapshot of billing metrics by account; no primary key.",
    ),
    _table(
        "inactivated_billing_data",
        FILE_REPOSITORY,
        "A11 #9",
        12,
        (),
        personal=("Service Owner", "PH Name"),
        description="A snapshot of the billing of vendors that were inactivated; no primary key.",
    ),
    _table(
        "lost_revenue",
        FILE_REPOSITORY,
        "A11 #9",
        9,
        (),
        personal=("so_name", "ph_name"),
        description="A snapshot of the revenue of vendors that left; no primary key.",
    ),
    _table(
        "prepay_so_list",
        FILE_REPOSITORY,
        "A11 #9",
        1,
        ("customer_id",),
        description="Customers on a prepaid plan; no primary key.",
    ),
    _table(
        "work_log",
        FILE_REPOSITORY,
        "A11 #10",
        5,
        ("user_id", "session_id", "customer_id", "start_time", "end_time"),
        personal=("session_id",),
        description="Sessions of users by customer; no primary key, half of them without an end.",
    ),
    _table(
        "vornado_feed",
        FILE_REPOSITORY,
        "A11 #11",
        41,
        ("PH_ID", "Property Code", "Tenant ID", "Tenant Name", "Lease Start", "Lease End", "Status"),
        required=("PH_ID", "Property Code", "Tenant ID", "Lease Start", "Lease End"),
        personal=("Tenant Name", "Contact Name", "Contact Email", "Contact Phone", "Contact Fax"),
        description="Tenants and leases that one client sends (ABSINSQRY).",
    ),
)

LEGACY_TABLES = {table.name: table for table in _TABLES}


def _crosswalk(name: str, area: int, key: str, values: tuple[str, ...], description: str) -> LegacyTable:
    columns = (key, *values)
    return LegacyTable(
        name=name,
        area=OTHER_AREAS,
        columns=columns,
        key=(key,),
        required=columns,
        column_count=len(columns),
        description=f"{description} Handed over by Area {area}.",
        kind_of=column_kind,
    )


CROSSWALKS = {
    table.name: table
    for table in (
        _crosswalk("crosswalk_user", 1, "user_id", ("target_user_id",), "Legacy user → User."),
        _crosswalk(
            "crosswalk_account",
            2,
            "customer_id",
            ("account_id", "directory_id"),
            "Legacy customer → Account, and its Directory (NULL for an account that is not a root).",
        ),
        _crosswalk("crosswalk_record", 3, "vendor_id", ("record_id",), "Legacy vendor → Record."),
        _crosswalk(
            "crosswalk_repo_file",
            4,
            "repo_file_id",
            ("target_model", "target_id"),
            "Legacy file → the Document or Certificate that Area 4 made of it.",
        ),
        _crosswalk(
            "crosswalk_requirements",
            6,
            "requirements_id",
            ("coi_risk_profile_id",),
            "Legacy requirements → COIRiskProfile.",
        ),
    )
}
