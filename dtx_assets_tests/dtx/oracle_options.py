"""What sections 4.4 to 4.6 of the contract say, done a second time like the rest (`oracle`): the tables with options.

Here are reviewer_address, keyword, form_field, envelope, imap_upload, vornado_feed and repo_file, and `migrate`, which
does what the chosen options ask of all tables. Nothing of `dtx_assets` is imported.
"""

import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dtx_assets_tests.dtx.oracle import (
    SENTINEL_DATE,
    Inputs,
    LookUps,
    Rejected,
    Result,
    Source,
    Value,
    address_leaves,
    cannot_be_written,
    clock_changes,
    code,
    email_templates,
    exemptions,
    find,
    flatten,
    instant,
    instant_or_null,
    integer,
    keep_books,
    notification_schedules,
    parse_php,
    read_table,
    user_or_null,
    valid_address,
)

# Counts that the contract asks for without a name.
RECORD_NOT_FOUND = "record_not_found"
DOCUMENT_NOT_FOUND = "document_not_found"


def canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def check_written(source: Source, *columns: str) -> None:
    """1.2: "A NUL, or bytes that are not text …, in a value that would be written: `unparseable`"."""
    if any(cannot_be_written(source[column]) for column in columns):
        source.reasons.add("unparseable")


def check_given(source: Source, *columns: str) -> None:
    """What no rule of section 4 names: the target column is not null, and its legacy value is."""
    if any(source[column] is None for column in columns):
        source.reasons.add("schema_violation")


def account_of(lookups: LookUps, source: Source) -> int | None:
    account = find(lookups.account, source["customer_id"])
    if account is None:
        source.reasons.add("orphan_reference")
    return account


def counted_record(lookups: LookUps, source: Source) -> int | None:
    """ "NULL or no match: NULL, counted"; what is counted is a vendor that is named and has no record."""
    record = find(lookups.record, source["vendor_id"])
    if record is None and source["vendor_id"] is not None:
        source.coercions.append(RECORD_NOT_FOUND)
    return record


def required_instant(inputs: Inputs, source: Source, column: str) -> datetime | None:
    found = instant(source[column], inputs.timezone)
    if source[column] is None:
        source.reasons.add("schema_violation")
    elif found is None:
        source.reasons.add("unparseable")
    source.coercions += clock_changes(source[column], inputs.timezone)
    return found


def required_integer(source: Source, column: str) -> int | None:
    number = integer(source[column])
    if source[column] is None:
        source.reasons.add("schema_violation")
    elif number is None:
        source.reasons.add("unparseable")
    return number


def keep_the_last(sources: Iterable[Source], key: Callable[[Source], Any], rank: Callable[[Source], Any]) -> None:
    """Of the sound rows that share a key, all but the highest are `duplicate_key`."""
    groups: dict[Any, list[Source]] = {}
    for source in sources:
        if source.is_sound:
            groups.setdefault(key(source), []).append(source)
    for group in groups.values():
        winner = max(group, key=rank)
        for source in group:
            if source is not winner:
                source.reasons.add("duplicate_key")


def source_order(source: Source) -> int:
    return source.row


def rule(source: Source, name: str, applies: bool) -> None:
    if applies and source.rule is None:
        source.rule = name


# --- 4.4: reviewer_address → AccountEmail -----------------------------------------------------------------------------


def account_emails(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "AccountEmail"
    there: dict[tuple[int | None, str], list[tuple[bool, int, str]]] = {}
    for row in inputs.other_areas.get("docutrax_hierarchy_accountemail", ()):
        if row["email_type"] == "reviewer":
            email = str(row["email"])
            spelling = (email != email.lower(), integer(row["id"]) or 0, email)
            there.setdefault((integer(row["account_id"]), email.lower()), []).append(spelling)
    sources = read_table(inputs, "reviewer_address")
    made: dict[tuple[int, str], dict[str, Any]] = {}
    for source in sources:
        leaves = address_leaves(source, "email_string")
        if source.rule:
            continue
        account = account_of(lookups, source)
        judged = [valid_address(leaf) for leaf in leaves]
        if "unparseable" not in source.reasons and not any(judged):
            source.reasons.add("invalid_email")
        if not source.is_sound or account is None:
            continue
        for address in judged:
            if address is None:
                invalid = Rejected(source.table, source.key, ("invalid_email",), partial=True)
                result.rejected.setdefault(model, []).append(invalid)
                continue
            spellings = there.get((account, address))
            email = min(spellings)[2] if spellings else address
            row = made.setdefault((account, email), {"account_id": account, "email": email, "email_type": "reviewer"})
            result.link(model, source, row)
    result.rows[model] = list(made.values())
    keep_books(result, model, sources)


# --- 4.6: keyword and form_field --------------------------------------------------------------------------------------


def keyword_rows(inputs: Inputs) -> list[Source]:
    sources = read_table(inputs, "keyword")
    for source in sources:
        rule(source, "empty", source["keyword"] is None or source["replacement"] is None)
        if not source.rule:
            check_written(source, "keyword", "replacement")
    return sources


def form_field_rows(inputs: Inputs) -> list[Source]:
    sources = read_table(inputs, "form_field")
    for source in sources:
        rule(source, "empty", source["value"] in (None, ""))
        if not source.rule:
            check_written(source, "value")
    return sources


def form_field_id(source: Source) -> int:
    return integer(source["form_field_id"]) or 0


def account_metas(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "AccountMeta"
    made: dict[tuple[int | None, Value], dict[str, Any]] = {}
    accounts: dict[tuple[str, int], int | None] = {}
    result.rows[model] = []

    def account(source: Source) -> int | None:
        return accounts[source.table, source.row]

    if inputs.decisions["keyword"] == "account_meta":
        keywords = keyword_rows(inputs)
        for source in keywords:
            if not source.rule:
                accounts["keyword", source.row] = account_of(lookups, source)
        keep_the_last(keywords, lambda source: (account(source), source["keyword"]), source_order)
        for source in keywords:
            if source.is_sound:
                key = account(source), source["keyword"]
                made[key] = {"account_id": key[0], "key": key[1], "value": source["replacement"]}
                result.link(model, source, made[key])
        keep_books(result, model, keywords)

    if inputs.decisions["form_field"] == "account_meta":
        fields = form_field_rows(inputs)
        for source in fields:
            if source.rule:
                continue
            accounts["form_field", source.row] = account_of(lookups, source)
            check_given(source, "property_name", "vendor_id")
            check_written(source, "property_name")
            if source["vendor_id"] is not None and integer(source["vendor_id"]) is None:
                source.reasons.add("unparseable")

        def place(source: Source) -> tuple[int | None, str]:
            return account(source), f"form_field.{source['property_name']!s}"

        # "the same vendor and property twice": a vendor that two accounts name has a value for each.
        keep_the_last(fields, lambda source: (*place(source), integer(source["vendor_id"])), form_field_id)
        groups: dict[tuple[int | None, str], list[Source]] = {}
        for source in fields:
            if source.is_sound and place(source) in made:
                source.reasons.add("duplicate_key")  # the target has room for one of the two, and a keyword is as named
            elif source.is_sound:
                groups.setdefault(place(source), []).append(source)
        for (owner, name), group in groups.items():
            by_vendor = {str(integer(source["vendor_id"])): source["value"] for source in group}
            values = set(by_vendor.values())
            value = values.pop() if len(values) == 1 else canonical(by_vendor)
            row = {"account_id": owner, "key": name, "value": value}
            result.rows[model].append(row)
            for source in group:
                result.link(model, source, row)
        keep_books(result, model, fields)
    result.rows[model] += made.values()


def record_fields(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "Record"
    columns = {"custom_field_0": "internal_id", "custom_field_1": "internal_id1"}
    fields = form_field_rows(inputs)
    records: dict[int, int | None] = {}
    for source in fields:
        if source.rule:
            continue
        records[source.row] = find(lookups.record, source["vendor_id"])
        if records[source.row] is None:
            source.reasons.add("orphan_reference")
        if source["property_name"] not in columns:
            source.reasons.add("unmapped_value")
    keep_the_last(fields, lambda source: (records[source.row], source["property_name"]), form_field_id)
    result.rows[model] = []
    for source in fields:
        if source.is_sound:
            row: dict[str, Any] = {"id": records[source.row], "internal_id": None, "internal_id1": None}
            row[columns[str(source["property_name"])]] = source["value"]
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, fields)


def directory_labels(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "Directory"
    keywords = keyword_rows(inputs)
    directories: dict[int, int | None] = {}
    for source in keywords:
        if not source.rule:
            directories[source.row] = find(lookups.directory, source["customer_id"])
            if directories[source.row] is None:
                source.reasons.add("orphan_reference")
    keep_the_last(keywords, lambda source: (directories[source.row], source["keyword"]), source_order)
    result.rows[model] = []
    for source in keywords:
        if source.is_sound:
            labels = {"labels": {source["keyword"]: source["replacement"]}}
            row = {"id": directories[source.row], "settings": labels}
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, keywords)


# --- 4.6: envelope ----------------------------------------------------------------------------------------------------

EVENTS = {"voided": "Voided", "completed": "Completed", "declined": "Declined"}
LOOKS_SERIALISED = re.compile(r'a:[0-9]+:\{|[sSOCE]:[0-9]+:"')


def contact_of(value: Value) -> dict[str, Any]:
    """A contact with its addresses as an array; ValueError where there is none."""
    if not isinstance(value, str):
        raise ValueError("no text")
    contact = parse_php(value)
    if isinstance(contact, str):
        contact = parse_php(contact)  # "decoded twice where it is doubly serialised"
    if not isinstance(contact, dict):
        raise ValueError("no array")
    found = {str(key): as_json(element) for key, element in contact.items()}
    found["email"] = emails_of(contact.get("email"))
    if any("\0" in text for text in texts(found)):
        raise ValueError("a NUL")
    return found


def emails_of(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = parse_php(value)
        except ValueError:
            if LOOKS_SERIALISED.match(value):  # "Undecodable: rejected", and no address looks like that
                raise
    if isinstance(value, dict):
        return [text_of(leaf) for leaf in flatten(value) if leaf is not None]
    return [] if value is None or value == "" else [text_of(value)]


def text_of(leaf: Any) -> str:
    return leaf if isinstance(leaf, str) else canonical(leaf)


def as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): as_json(element) for key, element in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no number of JSON")
    return value


def texts(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, element in value.items():
            yield key
            yield from texts(element)
    elif isinstance(value, list):
        yield from value
    elif isinstance(value, str):
        yield value


def event_of(source: Source) -> str | None:
    value = source["event"]
    event = None if value is None else EVENTS.get(code(value) or "")
    if value is not None and event is None:
        source.reasons.add("unmapped_value")
    return event


def response_trackings(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "ResponseTracking"
    envelopes = read_table(inputs, "envelope")
    result.rows[model] = []
    for source in envelopes:
        if source.rule:
            continue
        row: dict[str, Any] = {
            "account_id": account_of(lookups, source),
            "record_id": counted_record(lookups, source),
            "event": event_of(source),
            "clicks": required_integer(source, "clicks"),
            "accessed_at": instant_or_null(inputs, source, "access_time"),
            "created": required_instant(inputs, source, "create_time"),
            "modified": required_instant(inputs, source, "update_time"),
        }
        try:
            row["contact"] = contact_of(source["vendor_data"])
        except ValueError:
            source.reasons.add("unparseable")
        # What the target cannot hold shows in the row that is made; a source row with another fault makes none.
        if source.is_sound and not -(2**31) <= (row["clicks"] or 0) < 2**31:
            source.reasons.add("schema_violation")
        if source.is_sound:
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, envelopes)


def response_metrics(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "ResponseMetric"
    envelopes = read_table(inputs, "envelope")
    groups: dict[tuple[Any, ...], list[tuple[Source, int, datetime]]] = {}
    for source in envelopes:
        if source.rule:
            continue
        place = account_of(lookups, source), counted_record(lookups, source), event_of(source) or ""
        clicks = required_integer(source, "clicks")
        created = required_instant(inputs, source, "create_time")
        if source.is_sound and clicks is not None and created is not None:
            groups.setdefault(place, []).append((source, clicks, created))
    result.rows[model] = []
    for (account, record, event), group in groups.items():
        row = {
            "account_id": account,
            "record_id": record,
            "event": event,
            "envelopes": len(group),
            "clicks": sum(clicks for _, clicks, _ in group),
            "first_at": min(created for _, _, created in group),
            "last_at": max(created for _, _, created in group),
        }
        result.rows[model].append(row)
        for source, _, _ in group:
            result.link(model, source, row)
    keep_books(result, model, envelopes)


# --- 4.6: imap_upload -------------------------------------------------------------------------------------------------


def documents_by_file(inputs: Inputs) -> dict[int, int]:
    """Document by legacy file: this run's, or Area 4's where the target has it."""
    existing = {integer(row["id"]) for row in inputs.other_areas.get("docutrax_profiles_document", ())}
    found = {}
    for row in inputs.crosswalks.get("crosswalk_repo_file", ()):
        file, document = integer(row["repo_file_id"]), integer(row["target_id"])
        if code(row["target_model"]) == "document" and file is not None and document in existing:
            found[file] = document or 0
    return found | dict(inputs.documents)


def imap_uploads(inputs: Inputs, _: LookUps, result: Result) -> None:
    model = "ImapUpload"
    documents = documents_by_file(inputs)
    uploads = read_table(inputs, "imap_upload")
    result.rows[model] = []
    for source in uploads:
        if source.rule:
            continue
        document = find(documents, source["repo_file_id"])
        if document is None and source["repo_file_id"] is not None:
            source.coercions.append(DOCUMENT_NOT_FOUND)
        check_given(source, "sender", "filename")
        check_written(source, "sender", "filename")
        row = {
            "document_id": document,
            "sender": source["sender"],
            "filename": source["filename"],
            "filesize": required_integer(source, "filesize"),
            "received_at": required_instant(inputs, source, "received_time"),
        }
        if source.is_sound:
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, uploads)


def imap_metadata(inputs: Inputs, _: LookUps, result: Result) -> None:
    model = "DocumentMetadata"
    documents = documents_by_file(inputs)
    uploads = read_table(inputs, "imap_upload")
    received: dict[int, datetime] = {}
    for source in uploads:
        if source.rule:
            continue
        if find(documents, source["repo_file_id"]) is None:
            source.reasons.add("no_matching_row")
        check_written(source, "sender", "filename")
        received[source.row] = required_instant(inputs, source, "received_time") or datetime.min.replace(tzinfo=UTC)
    keep_the_last(
        uploads,
        lambda source: find(documents, source["repo_file_id"]),
        lambda source: (received[source.row], source.row),
    )
    result.rows[model] = []
    for source in uploads:
        if source.is_sound:
            imap = {
                "sender": source["sender"],
                "received_at": received[source.row].isoformat(),
                "filename": source["filename"],
            }
            row = {"id": find(documents, source["repo_file_id"]), "metadata": {"imap": imap}}
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, uploads)


# --- 4.6: vornado_feed ------------------------------------------------------------------------------------------------


def lease_date(source: Source, column: str) -> str | None:
    """ISO date of MM/DD/YYYY; None where there is none, or where it is for ever."""
    value = source[column]
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{2}/[0-9]{2}/[0-9]{4}", value):
            raise ValueError("another form")
        day = date(int(value[6:]), int(value[:2]), int(value[3:5])).isoformat()
    except ValueError:
        source.reasons.add("unparseable")
        return None
    if day == "2050-12-31":
        source.coercions.append(SENTINEL_DATE)
        return None
    return day


def leases(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "RecordVornado"
    feed = read_table(inputs, "vornado_feed")
    by_record: dict[int, list[tuple[Source, dict[str, Any]]]] = {}
    for source in feed:
        rule(source, "rejected_at_source", integer(source["PH_ID"]) == -1)
        if source.rule:
            continue
        record = find(lookups.record, source["PH_ID"])
        if record is None:
            source.reasons.add("orphan_reference")
        check_written(source, "Property Code", "Tenant ID")
        lease = {
            "property_code": source["Property Code"],
            "tenant_id": source["Tenant ID"],
            "lease_start": lease_date(source, "Lease Start"),
            "lease_end": lease_date(source, "Lease End"),
        }
        if source.is_sound and record is not None:
            by_record.setdefault(record, []).append((source, lease))
    result.rows[model] = []
    for record, group in by_record.items():
        # "in order of start"; one without a start comes last, rows of one start as they come.
        group.sort(key=lambda each: (each[1]["lease_start"] is None, each[1]["lease_start"] or "", each[0].row))
        row = {"id": record, "metadata": {"vornado": [lease for _, lease in group]}}
        result.rows[model].append(row)
        for source, _ in group:
            result.link(model, source, row)
    keep_books(result, model, feed)


# --- 4.5: repo_file → Document ----------------------------------------------------------------------------------------

LONGEST_NAME = 150


def object_name(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    last = "".join(letter for letter in last if unicodedata.category(letter) != "Cc")
    if len(last.encode()) > LONGEST_NAME:
        suffix = PurePosixPath(last).suffix
        stem = last.removesuffix(suffix).encode()[: LONGEST_NAME - len(suffix.encode())]
        last = stem.decode(errors="ignore") + suffix
    # A key with a part . or .. is none that a store can keep: there, too, nothing is left.
    return last if last not in ("", ".", "..") else "file"


def judge_path(inputs: Inputs, value: Value) -> tuple[str | None, bytes]:
    """Why a file cannot be migrated, or its bytes."""
    if value is None or inputs.files is None:
        return "file_missing", b""
    path = os.fsdecode(value)
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        return "unsafe_path", b""
    root = inputs.files.resolve()
    resolved = Path(os.path.realpath(root / path))
    if not resolved.is_relative_to(root):
        return "unsafe_path", b""
    try:
        return (None, resolved.read_bytes()) if resolved.is_file() else ("file_missing", b"")
    except OSError:
        return "file_missing", b""


def documents(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "Document"
    handled = {integer(row["repo_file_id"]) for row in inputs.crosswalks.get("crosswalk_repo_file", ())}
    files = read_table(inputs, "repo_file")
    result.rows[model] = []
    for source in files:
        number = integer(source["repo_file_id"])
        rule(source, "deleted", code(source["status"]) == "deleted")
        rule(source, "handled_by_area_4", number is not None and number in handled)
        links = (source["certificate_id"], source["document_id"])
        rule(source, "linked_not_in_crosswalk", any(link is not None and integer(link) != 0 for link in links))
        if source.rule:
            continue
        account = account_of(lookups, source)
        record = counted_record(lookups, source)
        check_given(source, "name")
        check_written(source, "name")
        problem, content = judge_path(inputs, source["repo_filepath"])
        if problem:
            source.reasons.add(problem)
        created_by = user_or_null(lookups, source, "upload_user_id")
        created = instant_or_null(inputs, source, "intake_date")
        if source.is_sound:
            name = str(source["name"])
            row = {
                "account_id": account,
                "record_id": record,
                "uploaded_by_id": record,
                "file": f"documents/{account}/{number}/{object_name(name)}",
                "original_filename": name,
                "content_hash": hashlib.sha256(content).hexdigest(),
                "status": "new",
                "needs_review": True,
                "created_by_id": created_by,
                "created": created,
            }
            result.rows[model].append(row)
            result.link(model, source, row)
    keep_books(result, model, files)


# --- all of it --------------------------------------------------------------------------------------------------------

Flow = Callable[[Inputs, LookUps, Result], None]
ALWAYS: dict[str, tuple[Flow, ...]] = {
    "notification": (notification_schedules,),
    "letter": (email_templates,),
    "exemption": (exemptions,),
    "reviewer_address": (account_emails,),
    "repo_file": (documents,),
}
UNDER: dict[tuple[str, str], Flow] = {
    ("keyword", "account_meta"): account_metas,
    ("keyword", "directory_settings"): directory_labels,
    ("form_field", "record_internal_id"): record_fields,
    ("form_field", "account_meta"): account_metas,
    ("envelope", "response_tracking"): response_trackings,
    ("envelope", "aggregate"): response_metrics,
    ("imap_upload", "model"): imap_uploads,
    ("imap_upload", "document_metadata"): imap_metadata,
    ("vornado_feed", "seed_records"): leases,
    # By a feed file in place of code, with the same result.
    ("vornado_feed", "generic_import"): leases,
}


def flows_of(tables: Iterable[str], decisions: Mapping[str, str]) -> list[Flow]:
    """What the decisions ask of some tables, each once."""
    chosen: dict[Flow, None] = {}
    for table in tables:
        for flow in ALWAYS.get(table, ()):
            chosen[flow] = None
        if table in decisions and (table, decisions[table]) in UNDER:
            chosen[UNDER[table, decisions[table]]] = None
    return list(chosen)


def migrate(inputs: Inputs, tables: Iterable[str] | None = None) -> Result:
    """What becomes of the legacy tables there are, or of those named."""
    lookups, result = LookUps(inputs), Result()
    for flow in flows_of(inputs.legacy if tables is None else tables, inputs.decisions):
        flow(inputs, lookups, result)
    return result
