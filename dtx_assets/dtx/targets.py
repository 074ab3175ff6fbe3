"""The tables of DTX 2.0 that the plans of Areas 8 and 11 name: columns, types, keys, meaning, decision.

Columns that the plans and the contract do not name are left out: the DTX 2.0 team owns this schema. Text has no length
here, because lengths are read from the live target; only code columns with a fixed set of values have one.
"""

from dtx_assets.dtx.tables import FILE_REPOSITORY, NOTIFICATIONS, OTHER_AREAS
from dtx_assets.machinery.model.target import TargetColumn, TargetTable

TYPE_PREFIXES = ("coi_", "document_")
TYPE_SUFFIXES = ("request", "non_compliance", "expiration", "review")
SCHEDULE_TYPES = tuple(prefix + suffix for prefix in TYPE_PREFIXES for suffix in TYPE_SUFFIXES)
SEQUENCES = ("initial", "reminder", "final", "alert", "restart_notices", "soon_to_expire", "expired")

_USER = "docutrax_users_user"
_ACCOUNT = "docutrax_hierarchy_account"
_RECORD = "docutrax_hierarchy_record"
_REQUIREMENTS_GROUP = "docutrax_profiles_requirementsgroup"
_SCHEDULE = "docutrax_utils_notificationschedule"
_DOCUMENT = "docutrax_profiles_document"

_SEND_DAYS = ("dow_bitmap", "send_days")
_DOW_METADATA = ("dow_bitmap", "metadata")
_RESPONSE_TRACKING = ("envelope", "response_tracking")
_RESPONSE_METRIC = ("envelope", "aggregate")
_IMAP_MODEL = ("imap_upload", "model")
_IMAP_METADATA = ("imap_upload", "document_metadata")
_INTERNAL_ID = ("form_field", "record_internal_id")
_DIRECTORY_SETTINGS = ("keyword", "directory_settings")
_SEED_RECORDS = ("vornado_feed", "seed_records", "generic_import")

_NOTIFICATION_TARGETS = (
    TargetTable(
        name=_SCHEDULE,
        model="NotificationSchedule",
        area=NOTIFICATIONS,
        writes="insert",
        natural_key=("account_id", "type", "sequence"),
        held_column="is_active",
        decision="A8 #1",
        description="When which reminder goes to whom: a row per account, type and sequence.",
        columns=(
            TargetColumn("account_id", "bigint", "The account whose records are reminded.", references=_ACCOUNT),
            TargetColumn("type", "text", "What the reminder is about.", max_length=50, allowed=SCHEDULE_TYPES),
            TargetColumn("sequence", "text", "Which reminder of its type.", max_length=50, allowed=SEQUENCES),
            TargetColumn("days_after", "integer", "Days between the event and the reminder."),
            TargetColumn(
                "timing_type",
                "text",
                "Whether the days count before or after the event.",
                max_length=50,
                allowed=("before", "after"),
            ),
            TargetColumn("email_recipients", "jsonb", "E-mail addresses, each once, sorted (array)."),
            TargetColumn("is_active", "boolean", "Whether DTX 2.0 sends it: SEND is true, HOLD is false (A8 #7)."),
            TargetColumn("created_by_id", "bigint", "Who made the legacy row.", nullable=True, references=_USER),
            TargetColumn("created", "timestamptz", "When the legacy row was made.", nullable=True),
            TargetColumn(
                "send_days",
                "jsonb",
                "Days on which it may be sent, Monday first (array); NULL is every day (A8 #7 B).",
                nullable=True,
                needed_when=_SEND_DAYS,
            ),
            TargetColumn(
                "metadata",
                "jsonb",
                "The legacy day-of-week bitmap, for manual configuration (A8 #7 C).",
                nullable=True,
                needed_when=_DOW_METADATA,
            ),
        ),
    ),
    TargetTable(
        name="docutrax_utils_emailtemplate",
        model="EmailTemplate",
        area=NOTIFICATIONS,
        writes="insert",
        natural_key=("entity_type", "entity_id", "name", "language"),
        decision="A8 #4",
        description="Reusable e-mail templates with {PLACEHOLDER} variables.",
        columns=(
            TargetColumn("entity_type", "text", "Whose template it is.", max_length=50, allowed=("account",)),
            TargetColumn("entity_id", "bigint", "The account's id; the pair with entity_type is no foreign key."),
            TargetColumn("name", "text", "Type and selector of the letter."),
            TargetColumn("subject", "text", "Subject with {PLACEHOLDER} variables."),
            TargetColumn("body_html", "text", "HTML body with {PLACEHOLDER} variables."),
            TargetColumn("body_text", "text", "Plain text; NULL makes DTX 2.0 derive it.", nullable=True),
            TargetColumn("from_email", "text", "Sender; NULL is the system's.", nullable=True),
            TargetColumn("from_name", "text", "Sender's name; NULL is the system's.", nullable=True),
            TargetColumn("variables", "jsonb", "Distinct variables of the body, sorted (array)."),
            TargetColumn("is_active", "boolean", "Always true."),
            TargetColumn("is_default", "boolean", "Always false: these are customers' own."),
            TargetColumn("language", "text", "Language of the body.", max_length=10, allowed=("en", "es")),
            TargetColumn("created", "timestamptz", "When the letter was last edited.", nullable=True),
            TargetColumn("modified", "timestamptz", "When the letter was last edited.", nullable=True),
        ),
    ),
    TargetTable(
        name="docutrax_utils_emaillog",
        model="EmailLog",
        area=NOTIFICATIONS,
        decision="A8 #5",
        description="Delivery of each e-mail. Starts empty: sent messages stay in the archive of messagequeue.",
        columns=(TargetColumn("schedule_id", "bigint", "What was due.", nullable=True, references=_SCHEDULE),),
    ),
    TargetTable(
        name="docutrax_utils_notificationqueue",
        model="NotificationQueue",
        area=NOTIFICATIONS,
        decision="A8 #1",
        description="E-mails that wait to be sent. Starts empty: DTX 2.0 builds it from the schedules.",
        columns=(TargetColumn("schedule_id", "bigint", "What is due.", nullable=True, references=_SCHEDULE),),
    ),
    TargetTable(
        name="docutrax_utils_inappnotification",
        model="InAppNotification",
        area=NOTIFICATIONS,
        decision="A8 #8",
        description="Bell notifications. Starts empty: DTX 1.0 has none, and its users' alert settings are dropped.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_utils_cronsetting",
        model="CronSetting",
        area=NOTIFICATIONS,
        decision="A8 #7",
        description="When DTX 2.0's own tasks run. Starts empty: DTX 2.0 sets it, and no option puts days there.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_utils_responsetracking",
        model="ResponseTracking",
        area=NOTIFICATIONS,
        writes="insert",
        decision="A8 #6",
        description="How vendors answered compliance requests: a row per envelope. A model to be made.",
        columns=(
            TargetColumn("account_id", "bigint", "Who asked.", references=_ACCOUNT, needed_when=_RESPONSE_TRACKING),
            TargetColumn(
                "record_id",
                "bigint",
                "Who was asked.",
                nullable=True,
                references=_RECORD,
                needed_when=_RESPONSE_TRACKING,
            ),
            TargetColumn(
                "event",
                "text",
                "Outcome: Voided, Completed, Declined; NULL is none.",
                nullable=True,
                needed_when=_RESPONSE_TRACKING,
            ),
            TargetColumn("clicks", "integer", "How often the link was opened.", needed_when=_RESPONSE_TRACKING),
            TargetColumn(
                "accessed_at", "timestamptz", "When it was opened.", nullable=True, needed_when=_RESPONSE_TRACKING
            ),
            TargetColumn(
                "contact", "jsonb", "The vendor's contact as it was then (object).", needed_when=_RESPONSE_TRACKING
            ),
            TargetColumn("created", "timestamptz", "When the request went out.", needed_when=_RESPONSE_TRACKING),
            TargetColumn("modified", "timestamptz", "When its outcome last changed.", needed_when=_RESPONSE_TRACKING),
        ),
    ),
    TargetTable(
        name="docutrax_utils_responsemetric",
        model="ResponseMetric",
        area=NOTIFICATIONS,
        writes="insert",
        natural_key=("account_id", "record_id", "event"),
        nulls_equal=True,
        decision="A8 #6",
        description="How vendors answered compliance requests: sums by account, record and event. A new model.",
        columns=(
            TargetColumn("account_id", "bigint", "Who asked.", references=_ACCOUNT, needed_when=_RESPONSE_METRIC),
            TargetColumn(
                "record_id",
                "bigint",
                "Who was asked.",
                nullable=True,
                references=_RECORD,
                needed_when=_RESPONSE_METRIC,
            ),
            TargetColumn("event", "text", "Outcome; empty where there is none.", needed_when=_RESPONSE_METRIC),
            TargetColumn("envelopes", "integer", "How many requests.", needed_when=_RESPONSE_METRIC),
            TargetColumn("clicks", "integer", "How often their links were opened.", needed_when=_RESPONSE_METRIC),
            TargetColumn("first_at", "timestamptz", "When the first went out.", needed_when=_RESPONSE_METRIC),
            TargetColumn("last_at", "timestamptz", "When the last went out.", needed_when=_RESPONSE_METRIC),
        ),
    ),
    TargetTable(
        name="docutrax_utils_useractivitylog",
        model="UserActivityLog",
        area=FILE_REPOSITORY,
        decision="A11 #10",
        description="Requests of users. Replaces work_log; nothing is written.",
        columns=(),
    ),
)

_FILE_TARGETS = (
    TargetTable(
        name="docutrax_profiles_manualoverride",
        model="ManualOverride",
        area=FILE_REPOSITORY,
        writes="insert",
        decision="A11 #7",
        description="A coverage that a requirements group is exempt from.",
        columns=(
            TargetColumn("requirements_group_id", "bigint", "The exempt group.", references=_REQUIREMENTS_GROUP),
            TargetColumn(
                "coi_risk_profile_id",
                "bigint",
                "The risk profile it is limited to.",
                nullable=True,
                references="docutrax_profiles_coiriskprofile",
            ),
            TargetColumn("coverage_type", "text", "The exempt coverage."),
            TargetColumn("coverage_subtype", "text", "Legacy name where the type alone is too wide.", nullable=True),
            TargetColumn("item_key", "text", "The one item of the coverage that is exempt.", nullable=True),
            TargetColumn("reason", "text", "Why, without trailing white space."),
            TargetColumn("status", "text", "State of the review.", max_length=50, allowed=("approved",)),
            TargetColumn("expires_at", "timestamptz", "Until when; NULL never expires.", nullable=True),
            TargetColumn("approved_by_id", "bigint", "Who made the exemption.", nullable=True, references=_USER),
            TargetColumn("approved_at", "timestamptz", "When it was made.", nullable=True),
        ),
    ),
    TargetTable(
        name="docutrax_profiles_docrequirement",
        model="DocRequirement",
        area=FILE_REPOSITORY,
        writes="update",
        decision="A11 #7",
        description="A document a requirements group must hand in. Rows are Area 6's; exemptions are marked in them.",
        columns=(
            TargetColumn("requirements_group_id", "bigint", "The group.", references=_REQUIREMENTS_GROUP),
            TargetColumn("document_type_id", "bigint", "The document.", references="docutrax_profiles_documenttype"),
            TargetColumn("is_exempted", "boolean", "Whether the group need not hand it in."),
            TargetColumn("exemption_note", "text", "Why, and until when.", nullable=True),
        ),
    ),
    TargetTable(
        name=_DOCUMENT,
        model="Document",
        area=FILE_REPOSITORY,
        writes="insert",
        decision="A11 #1",
        file_columns=("file", "content_hash"),
        description="A file in the object store. Area 4 makes most; this project adds the files nobody linked.",
        columns=(
            TargetColumn("account_id", "bigint", "Whose file it is.", references=_ACCOUNT),
            TargetColumn("record_id", "bigint", "The vendor it is about.", nullable=True, references=_RECORD),
            TargetColumn("uploaded_by_id", "bigint", "The vendor that sent it.", nullable=True, references=_RECORD),
            TargetColumn("file", "text", "Key in the object store, without the store's prefix."),
            TargetColumn("original_filename", "text", "Name as it was uploaded."),
            TargetColumn("content_hash", "text", "SHA-256 of the bytes, hexadecimal."),
            TargetColumn("status", "text", "State of the review.", max_length=50, allowed=("new",)),
            TargetColumn("needs_review", "boolean", "Always true: nobody has linked it."),
            TargetColumn("created_by_id", "bigint", "The user who uploaded it.", nullable=True, references=_USER),
            TargetColumn("created", "timestamptz", "When it came in.", nullable=True),
        ),
    ),
    TargetTable(
        name=_DOCUMENT,
        model="DocumentMetadata",
        area=FILE_REPOSITORY,
        writes="update",
        decision="A11 #4",
        description="The metadata of documents, this migration's and Area 4's: the e-mail they came with.",
        columns=(
            TargetColumn(
                "metadata",
                "jsonb",
                "More about the document (object); the e-mail under `imap`.",
                nullable=True,
                needed_when=_IMAP_METADATA,
            ),
        ),
    ),
    TargetTable(
        name="docutrax_profiles_certificate",
        model="Certificate",
        area=FILE_REPOSITORY,
        decision="A11 #1",
        description="A certificate of insurance. Area 4's; nothing is written.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_profiles_waiverrequest",
        model="WaiverRequest",
        area=FILE_REPOSITORY,
        decision="A11 #7",
        description="A request to waive a requirement. Starts empty: legacy exemptions are approved ones.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_hierarchy_accountemail",
        model="AccountEmail",
        area=FILE_REPOSITORY,
        writes="insert",
        natural_key=("account_id", "email", "email_type"),
        decision="A11 #8",
        description="Addresses of an account. Area 2 made those of the customer; reviewers it did not know are added.",
        columns=(
            TargetColumn("account_id", "bigint", "Whose address it is.", references=_ACCOUNT),
            TargetColumn("email", "text", "The address, lower case."),
            TargetColumn("email_type", "text", "What it is for.", max_length=50),
        ),
    ),
    TargetTable(
        name="docutrax_hierarchy_accountmeta",
        model="AccountMeta",
        area=FILE_REPOSITORY,
        writes="insert",
        natural_key=("account_id", "key"),
        decision="A11 #5, #6",
        description="Keys and values of an account: renamed labels and custom form fields.",
        columns=(
            TargetColumn("account_id", "bigint", "Whose value it is.", references=_ACCOUNT),
            TargetColumn("key", "text", "The keyword, or form_field.<property>."),
            TargetColumn("value", "text", "Its value; JSON where the vendors of a customer differ."),
        ),
    ),
    TargetTable(
        name="docutrax_profiles_imapupload",
        model="ImapUpload",
        area=FILE_REPOSITORY,
        writes="insert",
        decision="A11 #4",
        description="A file that came in by e-mail. A model to be made.",
        columns=(
            TargetColumn(
                "document_id",
                "bigint",
                "The document it became.",
                nullable=True,
                references=_DOCUMENT,
                needed_when=_IMAP_MODEL,
            ),
            TargetColumn("sender", "text", "Who sent it.", needed_when=_IMAP_MODEL),
            TargetColumn("filename", "text", "Name of the attachment.", needed_when=_IMAP_MODEL),
            TargetColumn("filesize", "bigint", "Its size in bytes.", needed_when=_IMAP_MODEL),
            TargetColumn("received_at", "timestamptz", "When it came.", needed_when=_IMAP_MODEL),
        ),
    ),
    TargetTable(
        name="docutrax_billing_billingprofile",
        model="BillingProfile",
        area=FILE_REPOSITORY,
        decision="A11 #9",
        description="Billing through Stripe. Replaces the four billing tables; nothing is written.",
        columns=(),
    ),
)

_OTHER_TARGETS = (
    TargetTable(
        name=_USER, model="User", area=OTHER_AREAS, decision="Area 1", description="Users of DTX 2.0.", columns=()
    ),
    TargetTable(
        name=_ACCOUNT,
        model="Account",
        area=OTHER_AREAS,
        decision="Area 2",
        description="Accounts; customers of DTX 1.0.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_hierarchy_directory",
        model="Directory",
        area=OTHER_AREAS,
        writes="update",
        decision="A11 #6",
        description="Tenants. Rows are Area 2's; renamed labels may be merged into their settings.",
        columns=(
            TargetColumn(
                "settings",
                "jsonb",
                "Settings of the tenant (object); labels under `labels`.",
                nullable=True,
                needed_when=_DIRECTORY_SETTINGS,
            ),
        ),
    ),
    TargetTable(
        name=_RECORD,
        model="Record",
        area=OTHER_AREAS,
        writes="update",
        decision="A11 #5",
        description="Vendors of DTX 1.0. Rows are Area 3's; custom fields may be filled in.",
        columns=(
            TargetColumn("internal_id", "text", "First custom field.", nullable=True, needed_when=_INTERNAL_ID),
            TargetColumn("internal_id1", "text", "Second custom field.", nullable=True, needed_when=_INTERNAL_ID),
        ),
    ),
    TargetTable(
        name=_RECORD,
        model="RecordVornado",
        area=OTHER_AREAS,
        writes="update",
        decision="A11 #11",
        description="The metadata of records: the leases of one client's tenants.",
        columns=(
            TargetColumn(
                "metadata",
                "jsonb",
                "More about the record (object); leases under `vornado`.",
                nullable=True,
                needed_when=_SEED_RECORDS,
            ),
        ),
    ),
    TargetTable(
        name=_REQUIREMENTS_GROUP,
        model="RequirementsGroup",
        area=OTHER_AREAS,
        decision="Area 6",
        description="Requirements that records share.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_profiles_requirementsgroupmember",
        model="RequirementsGroupMember",
        area=OTHER_AREAS,
        decision="Area 6",
        description="Which record is held to which requirements group.",
        columns=(
            TargetColumn("record_id", "bigint", "The record.", references=_RECORD),
            TargetColumn("requirements_group_id", "bigint", "Its group.", references=_REQUIREMENTS_GROUP),
        ),
    ),
    TargetTable(
        name="docutrax_profiles_coiriskprofile",
        model="COIRiskProfile",
        area=OTHER_AREAS,
        decision="Area 6",
        description="Coverages that a risk calls for.",
        columns=(),
    ),
    TargetTable(
        name="docutrax_profiles_documenttype",
        model="DocumentType",
        area=OTHER_AREAS,
        decision="Area 6",
        description="Kinds of documents.",
        columns=(TargetColumn("name", "text", "Name of the kind."),),
    ),
)

TARGETS: tuple[TargetTable, ...] = (*_NOTIFICATION_TARGETS, *_FILE_TARGETS, *_OTHER_TARGETS)
