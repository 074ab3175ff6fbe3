"""What the mapping files of DTX cannot say as data: functions over the frames of one batch, registered by name."""

from dtx_assets.dtx.flows import (
    account_email,
    account_meta,
    directory_labels,
    document,
    email_template,
    envelope,
    exemption,
    imap_upload,
    notification_schedule,
    record_fields,
    vornado,
)

__all__ = [
    "account_email",
    "account_meta",
    "directory_labels",
    "document",
    "email_template",
    "envelope",
    "exemption",
    "imap_upload",
    "notification_schedule",
    "record_fields",
    "vornado",
]
