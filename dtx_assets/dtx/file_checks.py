"""The asset checks of the file repository and of the tables with options: what the plans ask to be counted.

The checks of the other tables, and which check covers which issue of the plans, are in `checks`.
"""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from dtx_assets.dtx.addresses import ADDRESS
from dtx_assets.dtx.php import counts_latin1, fits_latin1_only, php_strings
from dtx_assets.dtx.repo_files import is_linked
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.dtx.transforms import NEVER_ENDS, lease_day
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, found
from dtx_assets.machinery.checks.survey import Survey, shown_values, tally
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value

PLANNED_KEYWORDS = (
    "TRACKED_ITEM_NAME",
    "GROUP_NAME",
    "CUSTOM_FIELD_1",
    "CUSTOM_FIELD_2",
    "CUSTOM_FIELD_3",
    "CUSTOM_FIELD_4",
)
"""The labels that the plan names (Area 11 decisions 5 and 6)."""

PLANNED_STATUSES = ("submitted", "deleted", "manual_entry")
SAMPLED_FORM_FIELD = {
    "form_name": "vendor_view",
    "model_name": "Vendorhistory",
    "property_name": "custom_field_0",
}
"""The one combination of the plan's sample."""

DROPPED_AS_EMPTY = {
    "repo_file": re.compile("upload_email|upload_ip|autoextractable|evt_userid|evt_sessionid|display|supervisor"),
    # The plan speaks of contact fields and does not name them.
    "vornado_feed": re.compile(".*contact.*", re.IGNORECASE),
}
"""Columns that the plan drops because they say nothing in any row of its sample: NULL, or what `SAYS_NOTHING` has."""

SAYS_NOTHING = {"display": "no", "supervisor": "no"}

TYPOS = ("reokacnebt", "Noncontributary")
"""Of the feed, for replacement and Noncontributory (Area 11 decision 11)."""

WITH_SPECIAL_NAMES = ("repo_throughput", "billing_data", "inactivated_billing_data", "vornado_feed")


def table_survey(context: CheckContext, table: str) -> Survey:
    return Survey(context.legacy(table), personal=SYSTEM.legacy_tables[table].personal)


def has_text(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars() != ""


def dropped_columns(context: CheckContext, table: str) -> CheckOutcome:
    """The columns that are dropped as empty and have values all the same, with how many."""
    frame = context.legacy(table)
    there = [name for name in frame.collect_schema().names() if DROPPED_AS_EMPTY[table].fullmatch(name)]
    says = {name: has_text(name) & (code(pl.col(name)) != SAYS_NOTHING.get(name, "")) for name in there}
    counts = frame.select(said.sum().alias(name) for name, said in says.items()).collect(engine="streaming")
    with_values = {name: rows for name, rows in counts.row(0, named=True).items() if rows} if there else {}
    return found(len(with_values), columns=with_values, looked_at=", ".join(there))


# --- legacy/envelope --------------------------------------------------------------------------------------------------

ENVELOPE = ("legacy", "envelope")
ENVELOPE_SPECS = (
    CheckSpec(
        "events_are_known",
        ENVELOPE,
        "A8 decision 6: each event is Voided, Completed, Declined or NULL; how often each occurs helps to decide.",
    ),
    CheckSpec(
        "vendor_data_can_be_read",
        ENVELOPE,
        "A8 known issue 1: vendor_data is a PHP-serialised array without objects.",
    ),
    CheckSpec(
        "vendor_data_is_serialised_once",
        ENVELOPE,
        "A8 known issue 9: no value within vendor_data is itself serialised; where one is, it is read twice.",
    ),
)


def lengths_of_latin1(count: int) -> dict[str, Any]:
    """What checks of PHP values say where lengths fit latin1 only."""
    return {"lengths fit latin1 only (decision php_string_lengths)": count} if count else {}


def evaluate_envelope(context: CheckContext) -> dict[str, CheckOutcome]:
    event, php = pl.col("event"), pl.col("_php").struct
    frame = context.legacy("envelope").with_columns(
        php_strings(pl.col("vendor_data"), latin1_lengths=counts_latin1(context.decisions.chosen)).alias("_php")
    )
    known = code(event).is_in(["voided", "completed", "declined"]) | event.is_null() | (event.str.strip_chars() == "")
    nested = php.field("strings").list.eval(pl.element().str.contains(r"^(?:a:\d+:\{|s:\d+:\")")).list.any()
    survey = Survey(frame, personal=SYSTEM.legacy_tables["envelope"].personal)
    survey.rows("event", ~known, show=("event",), value=event)
    survey.values("events", event)
    why = php.field("detail").str.replace_all(r"\d+", "…")
    survey.rows("php", php.field("status") != "ok", show=(why.alias("why"),), value=why)
    survey.count("latin1", fits_latin1_only(pl.col("vendor_data")))
    survey.rows("nested", nested.fill_null(False))
    answers = survey.answers()
    return {
        "events_are_known": answers.rows["event"].outcome(events=shown_values(answers.values["events"])),
        "vendor_data_can_be_read": answers.rows["php"].outcome(
            why=shown_values(answers.values["php"]), **lengths_of_latin1(answers.rows["latin1"].count)
        ),
        "vendor_data_is_serialised_once": answers.rows["nested"].outcome(rows=answers.total),
    }


# --- legacy/messagequeue ----------------------------------------------------------------------------------------------

MESSAGES = ("legacy", "messagequeue")
MESSAGES_SPECS = (
    CheckSpec(
        "bodies_hold_no_macro",
        MESSAGES,
        "A8 known issue 6: no body that was sent has a macro such as __DATE__ left in it. The table is archived.",
    ),
)


def evaluate_messages(context: CheckContext) -> dict[str, CheckOutcome]:
    survey = table_survey(context, "messagequeue")
    macros = pl.col("letter_body").str.extract_all(r"__[A-Z0-9]+(?:_[A-Z0-9]+)*__")
    survey.rows("macros", macros.list.len() > 0, value=macros)
    answers = survey.answers()
    return {"bodies_hold_no_macro": answers.rows["macros"].outcome(macros=shown_values(answers.values["macros"]))}


# --- legacy/reviewer_address, mapping/reviewer_cross_reference --------------------------------------------------------

REVIEWER = ("legacy", "reviewer_address")
REVIEWER_SPECS = (
    CheckSpec(
        "type_and_level_are_always_empty",
        REVIEWER,
        "A11 decision 8: type is empty and level 0 in every row; both are dropped.",
    ),
    CheckSpec(
        "php_values_can_be_read",
        REVIEWER,
        "A11 known issue 1: every email_string is empty or a PHP-serialised array or string without objects.",
        severity="ERROR",
    ),
    CheckSpec("addresses_are_valid", REVIEWER, "A11 decision 8: every reviewer is an e-mail address.", severity="WARN"),
)


def evaluate_reviewer(context: CheckContext) -> dict[str, CheckOutcome]:
    php = pl.col("_php").struct
    valid = pl.element().str.strip_chars().str.contains(ADDRESS)
    invalid = pl.concat_list(php.field("strings").list.eval(pl.element().filter(~valid)), php.field("others"))
    frame = context.legacy("reviewer_address").with_columns(
        php_strings(pl.col("email_string"), latin1_lengths=counts_latin1(context.decisions.chosen)).alias("_php")
    )
    dead = has_text("type") | (pl.col("level").is_not_null() & (integer_value(pl.col("level")) != 0).fill_null(True))
    survey = Survey(frame, personal=SYSTEM.legacy_tables["reviewer_address"].personal | {"not an address"})
    survey.rows("dead", dead, show=("type", "level"))
    why = php.field("detail").str.replace_all(r"\d+", "…")
    survey.rows("php", php.field("status") == "unparseable", show=(why.alias("why"),), value=why)
    survey.rows(
        "invalid",
        (php.field("status") == "ok") & (invalid.list.len() > 0),
        show=(invalid.list.first().alias("not an address"),),
    )
    survey.count("latin1", fits_latin1_only(pl.col("email_string")))
    answers = survey.answers()
    return {
        "type_and_level_are_always_empty": answers.rows["dead"].outcome(),
        "php_values_can_be_read": answers.rows["php"].outcome(
            why=shown_values(answers.values["php"]), **lengths_of_latin1(answers.rows["latin1"].count)
        ),
        "addresses_are_valid": answers.rows["invalid"].outcome(),
    }


CROSS_REFERENCE = ("mapping", "reviewer_cross_reference")
CROSS_REFERENCE_SPECS = (
    CheckSpec(
        "area_2_has_every_reviewer",
        CROSS_REFERENCE,
        "A11 pre-migration action 3: every address of reviewer_address is a reviewer of the account already; others "
        "are added.",
    ),
)


def evaluate_cross_reference(context: CheckContext) -> dict[str, CheckOutcome]:
    states = tally(context.mapping(CROSS_REFERENCE[1]).select(pl.col("state").alias("value"))).collect()
    counts = dict(states.iter_rows())
    return {"area_2_has_every_reviewer": found(counts.get("new", 0), addresses=shown_values(states))}


# --- legacy/repo_file -------------------------------------------------------------------------------------------------

REPO_FILE = ("legacy", "repo_file")
REPO_FILE_SPECS = (
    CheckSpec(
        "files_are_linked_or_deleted",
        REPO_FILE,
        "A11 pre-migration action 4, known issue 7: no file is an orphan, neither deleted nor linked to a certificate "
        "or document nor handled by Area 4. Orphans become documents for review.",
    ),
    CheckSpec(
        "linked_files_were_handled_by_area_4",
        REPO_FILE,
        "A11 decision 1: every file with a certificate or document is in crosswalk_repo_file. Others are dropped, and "
        "Area 4 has to say what became of them.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec(
        "orphans_have_no_attachment",
        REPO_FILE,
        "A11 decision 1: no orphan has an attachment_id, a link that Area 4 resolves.",
    ),
    CheckSpec(
        "statuses_are_known", REPO_FILE, "A11 decision 1: each status is SUBMITTED, DELETED or MANUAL_ENTRY, or NULL."
    ),
    CheckSpec(
        "dropped_columns_are_empty",
        REPO_FILE,
        "A11 decision 1: the columns that are dropped for being NULL in the sample are NULL in every row, and display "
        "and supervisor, always 'no' there, say nothing else.",
    ),
)


def evaluate_repo_file(context: CheckContext) -> dict[str, CheckOutcome]:
    handled = context.legacy("crosswalk_repo_file").select(
        canonical_integer(pl.col("repo_file_id")).alias("_id"), pl.lit(True).alias("_handled")
    )
    frame = (
        context.legacy("repo_file")
        .with_columns(canonical_integer(pl.col("repo_file_id")).alias("_id"))
        .join(handled.unique("_id"), on="_id", how="left")
    )
    kept = (code(pl.col("status")) != "deleted").fill_null(True) & pl.col("_handled").is_null()
    linked = is_linked("certificate_id") | is_linked("document_id")
    orphan = kept & ~linked
    known = code(pl.col("status")).is_in(PLANNED_STATUSES) | ~has_text("status")
    survey = Survey(frame, personal=SYSTEM.legacy_tables["repo_file"].personal)
    survey.rows("orphan", orphan, show=("status", "intake_date"), value=pl.col("status"))
    survey.rows("unhandled", kept & linked, show=("certificate_id", "document_id"))
    survey.rows("attached", orphan & is_linked("attachment_id"), show=("attachment_id",))
    survey.rows("status", ~known, show=("status",))
    survey.values("statuses", pl.col("status"))
    answers = survey.answers()
    rows, values = answers.rows, answers.values
    return {
        "files_are_linked_or_deleted": rows["orphan"].outcome(
            **{"orphans by status": shown_values(values["orphan"]), "files": answers.total}
        ),
        "linked_files_were_handled_by_area_4": rows["unhandled"].outcome(),
        "orphans_have_no_attachment": rows["attached"].outcome(),
        "statuses_are_known": rows["status"].outcome(statuses=shown_values(values["statuses"])),
        "dropped_columns_are_empty": dropped_columns(context, "repo_file"),
    }


# --- legacy/imap_upload -----------------------------------------------------------------------------------------------

IMAP_UPLOAD = ("legacy", "imap_upload")
IMAP_UPLOAD_SPECS = (
    CheckSpec(
        "uploads_are_distinct",
        IMAP_UPLOAD,
        "A11 known issue 9: no sender sent a file of the same name and size twice.",
    ),
)


def evaluate_imap_upload(context: CheckContext) -> dict[str, CheckOutcome]:
    same = ["sender", "filename", "filesize"]
    repeated = (
        context.legacy("imap_upload").group_by(same).agg(pl.len().alias("uploads"), pl.col("_source_key").first())
    )
    survey = Survey(repeated, personal=SYSTEM.legacy_tables["imap_upload"].personal)
    survey.rows("again", pl.col("uploads") > 1, show=("filename", "uploads"))
    return {"uploads_are_distinct": survey.answers().rows["again"].outcome()}


# --- legacy/form_field ------------------------------------------------------------------------------------------------

FORM_FIELD = ("legacy", "form_field")
FORM_FIELD_SPECS = (
    CheckSpec(
        "form_fields_are_those_of_the_sample",
        FORM_FIELD,
        "A11 pre-migration action 1, known issue 6: every row is of form vendor_view, model Vendorhistory, property "
        "custom_field_0. Others are listed: the decision needs to know them.",
    ),
)


def evaluate_form_field(context: CheckContext) -> dict[str, CheckOutcome]:
    combination = pl.concat_str([pl.col(name).fill_null("NULL") for name in SAMPLED_FORM_FIELD], separator=" / ")
    other = pl.any_horizontal(pl.col(name).ne_missing(value) for name, value in SAMPLED_FORM_FIELD.items())
    survey = table_survey(context, "form_field")
    survey.rows("other", other, show=tuple(SAMPLED_FORM_FIELD), value=combination)
    survey.values("all", combination)
    answers = survey.answers()
    return {
        "form_fields_are_those_of_the_sample": found(
            answers.values["other"].height,
            rows=answers.rows["other"].count,
            decision=context.decisions.chosen["form_field"],
            **{"form / model / property": shown_values(answers.values["all"])},
        )
    }


# --- legacy/keyword ---------------------------------------------------------------------------------------------------

KEYWORD = ("legacy", "keyword")
KEYWORD_SPECS = (
    CheckSpec("keywords_are_those_of_the_plan", KEYWORD, "A11 decision 6: each keyword is one of the plan's six."),
    CheckSpec(
        "keywords_and_replacements_are_there",
        KEYWORD,
        "A11 decision 6: no keyword or replacement is NULL or blank; a label would be lost.",
    ),
)


def evaluate_keyword(context: CheckContext) -> dict[str, CheckOutcome]:
    survey = table_survey(context, "keyword")
    keyword = pl.col("keyword")
    survey.rows("other", has_text("keyword") & ~keyword.is_in(PLANNED_KEYWORDS), value=keyword)
    survey.rows("lost", ~has_text("keyword") | ~has_text("replacement"), show=("keyword", "replacement"))
    survey.values("all", keyword)
    answers = survey.answers()
    return {
        "keywords_are_those_of_the_plan": answers.rows["other"].outcome(keywords=shown_values(answers.values["all"])),
        "keywords_and_replacements_are_there": answers.rows["lost"].outcome(),
    }


# --- legacy/vornado_feed ----------------------------------------------------------------------------------------------

VORNADO = ("legacy", "vornado_feed")
VORNADO_SPECS = (
    CheckSpec("records_were_not_rejected_at_source", VORNADO, "A11 decision 11: no PH_ID is -1, a rejected record."),
    CheckSpec(
        "leases_end",
        VORNADO,
        "A11 decision 11, known issue 2: no Lease End is 12/31/2050, which means that the lease never ends.",
    ),
    CheckSpec("lease_dates_can_be_read", VORNADO, "A11 decision 11: lease dates are MM/DD/YYYY, empty or NULL."),
    CheckSpec("texts_have_no_known_typo", VORNADO, f"A11 decision 11: no text holds {' or '.join(TYPOS)}."),
    CheckSpec(
        "dropped_columns_are_empty",
        VORNADO,
        "A11 decision 11: the contact columns, NULL in the sample, are NULL in every row.",
    ),
)


def evaluate_vornado(context: CheckContext) -> dict[str, CheckOutcome]:
    frame = context.legacy("vornado_feed")
    texts = [name for name in frame.collect_schema().names() if not name.startswith("_")]
    typo = pl.any_horizontal(
        pl.col(name).str.contains_any(list(TYPOS), ascii_case_insensitive=True).fill_null(False) for name in texts
    )
    unreadable = pl.any_horizontal(
        (pl.col(name) != "").fill_null(False) & lease_day(pl.col(name)).is_null()
        for name in ("Lease Start", "Lease End")
    )
    survey = Survey(frame, personal=SYSTEM.legacy_tables["vornado_feed"].personal)
    survey.rows("rejected", integer_value(pl.col("PH_ID")) == -1, show=("Property Code",))
    survey.rows("perpetual", pl.col("Lease End") == NEVER_ENDS, show=("Property Code",))
    survey.rows("date", unreadable, show=("Lease Start", "Lease End"))
    survey.rows("typo", typo)
    answers = survey.answers()
    return {
        "records_were_not_rejected_at_source": answers.rows["rejected"].outcome(),
        "leases_end": answers.rows["perpetual"].outcome(),
        "lease_dates_can_be_read": answers.rows["date"].outcome(),
        "texts_have_no_known_typo": answers.rows["typo"].outcome(),
        "dropped_columns_are_empty": dropped_columns(context, "vornado_feed"),
    }


# --- names of columns -------------------------------------------------------------------------------------------------


def special_name_checks(table: str) -> CheckGroup:
    """A11 known issue 4: names that no ORM takes as they are."""
    asset = ("legacy", table)
    spec = CheckSpec(
        "column_names_are_plain",
        asset,
        "A11 known issue 4: every column name is letters, digits and underscores. Others are archived as they are.",
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        names: Sequence[str] = context.manifest(*asset).metadata["columns"]
        special = [name for name in names if not name.replace("_", "a").isalnum() or not name.isascii()]
        return {spec.name: found(len(special), names=", ".join(special))}

    return CheckGroup(asset, (spec,), evaluate, (asset,))


FILE_CHECKS: tuple[CheckGroup, ...] = (
    CheckGroup(ENVELOPE, ENVELOPE_SPECS, evaluate_envelope, (ENVELOPE,)),
    CheckGroup(MESSAGES, MESSAGES_SPECS, evaluate_messages, (MESSAGES,)),
    CheckGroup(REVIEWER, REVIEWER_SPECS, evaluate_reviewer, (REVIEWER,)),
    CheckGroup(CROSS_REFERENCE, CROSS_REFERENCE_SPECS, evaluate_cross_reference, (CROSS_REFERENCE,)),
    CheckGroup(REPO_FILE, REPO_FILE_SPECS, evaluate_repo_file, (REPO_FILE, ("legacy", "crosswalk_repo_file"))),
    CheckGroup(IMAP_UPLOAD, IMAP_UPLOAD_SPECS, evaluate_imap_upload, (IMAP_UPLOAD,)),
    CheckGroup(FORM_FIELD, FORM_FIELD_SPECS, evaluate_form_field, (FORM_FIELD,)),
    CheckGroup(KEYWORD, KEYWORD_SPECS, evaluate_keyword, (KEYWORD,)),
    CheckGroup(VORNADO, VORNADO_SPECS, evaluate_vornado, (VORNADO,)),
    *(special_name_checks(table) for table in WITH_SPECIAL_NAMES),
)
