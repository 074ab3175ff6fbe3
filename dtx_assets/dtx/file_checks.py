"""The asset checks of the file repository and of the tables with options: what the plans ask to be counted.

The other checks of DTX, and which of them covers which issue of the plans, are in `checks`.
"""

import re
from functools import partial

import polars as pl

from dtx_assets.dtx.addresses import ADDRESS
from dtx_assets.dtx.notification_checks import PHP, php_outcome, with_php, without_places
from dtx_assets.dtx.repo_files import is_linked
from dtx_assets.dtx.transforms import NEVER_ENDS, lease_day
from dtx_assets.machinery.checks.own import Asking, Checks, Count, Find, Look
from dtx_assets.machinery.checks.spec import CheckOutcome, found
from dtx_assets.machinery.checks.survey import shown_values, tally
from dtx_assets.machinery.mapping.conditions import IS
from dtx_assets.machinery.transforms.columns import canonical_integer, code

FILE_CHECKS = Checks()
SAMPLED_FORM_FIELD = {"form_name": "vendor_view", "model_name": "Vendorhistory", "property_name": "custom_field_0"}
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


@FILE_CHECKS.on(
    "legacy/repo_file",
    description="A11 decision 1: the columns that are dropped for being NULL in the sample are NULL in every row, and"
    " display and supervisor, always 'no' there, say nothing else.",
)
@FILE_CHECKS.on(
    "legacy/vornado_feed",
    description="A11 decision 11: the contact columns, NULL in the sample, are NULL in every row.",
)
def dropped_columns_are_empty(look: Look) -> Asking:
    names = look.legacy(look.asset[1]).collect_schema().names()
    there = [name for name in names if DROPPED_AS_EMPTY[look.asset[1]].fullmatch(name)]
    says = {name: IS["filled"](pl.col(name)) & (code(pl.col(name)) != SAYS_NOTHING.get(name, "")) for name in there}
    counts = yield {name: Count(said) for name, said in says.items()}
    with_values = {name: rows for name, rows in counts.items() if rows}
    return found(len(with_values), columns=with_values, looked_at=", ".join(there))


# --- legacy/envelope --------------------------------------------------------------------------------------------------

WHY = without_places(PHP.field("detail"))


def envelopes(look: Look) -> pl.LazyFrame:
    return with_php(look, "vendor_data")


def unreadable_php(when: pl.Expr) -> tuple[Find, Count]:
    return Find(when, show=WHY.alias("why"), values={"why": WHY}), Count(pl.col("_latin1"))


with_vendor_data = partial(FILE_CHECKS.on, "legacy/envelope", rows=envelopes)


@with_vendor_data()
def vendor_data_can_be_read(look: Look) -> Asking:
    """A8 known issue 1: vendor_data is a PHP-serialised array without objects."""
    return php_outcome(*(yield unreadable_php(PHP.field("status") != "ok")))


@with_vendor_data()
def vendor_data_is_serialised_once(look: Look) -> Find:
    """A8 known issue 9: no value within vendor_data is itself serialised; where one is, it is read twice."""
    nested = PHP.field("strings").list.eval(pl.element().str.contains(r"^(?:a:\d+:\{|s:\d+:\")")).list.any()
    return Find(nested, counts={"rows": pl.lit(True)})


# --- legacy/messagequeue ----------------------------------------------------------------------------------------------


@FILE_CHECKS.on("legacy/messagequeue")
def bodies_hold_no_macro(look: Look) -> Find:
    """A8 known issue 6: no body that was sent has a macro such as __DATE__ left in it. The table is archived."""
    macros = pl.col("letter_body").str.extract_all(r"__[A-Z0-9]+(?:_[A-Z0-9]+)*__")
    return Find(macros.list.len() > 0, values={"macros": macros})


# --- legacy/reviewer_address, mapping/reviewer_cross_reference --------------------------------------------------------


def reviewers(look: Look) -> pl.LazyFrame:
    return with_php(look, "email_string")


reviewer = partial(FILE_CHECKS.on, "legacy/reviewer_address", rows=reviewers)


@reviewer("ERROR")
def php_values_can_be_read(look: Look) -> Asking:
    """A11 known issue 1: every email_string is empty or a PHP-serialised array or string without objects."""
    return php_outcome(*(yield unreadable_php(PHP.field("status") == "unparseable")))


@reviewer()
def addresses_are_valid(look: Look) -> Find:
    """A11 decision 8, known issue 1: every reviewer is an e-mail address."""
    valid = pl.element().str.strip_chars().str.contains(ADDRESS)
    invalid = pl.concat_list(PHP.field("strings").list.eval(pl.element().filter(~valid)), PHP.field("others")).list
    shown = invalid.first().alias("not an address")
    return Find((PHP.field("status") == "ok") & (invalid.len() > 0), show=shown, masked=("not an address",))


@FILE_CHECKS.on("mapping/reviewer_cross_reference")
def area_2_has_every_reviewer(look: Look) -> CheckOutcome:
    """A11 pre-migration action 3: every address of reviewer_address is a reviewer of the account already; others
    are added."""
    states = tally(look.rows.select(pl.col("state").alias("value"))).collect()
    return found(dict(states.iter_rows()).get("new", 0), addresses=shown_values(states))


# --- legacy/repo_file -------------------------------------------------------------------------------------------------


def files(look: Look) -> pl.LazyFrame:
    """The rows with whether Area 4 `_handled` them."""
    number = canonical_integer(pl.col("repo_file_id")).alias("_id")
    handled = look.legacy("crosswalk_repo_file").select(number, pl.lit(True).alias("_handled")).unique("_id")
    return look.legacy("repo_file").with_columns(number).join(handled, on="_id", how="left")


repo_file = partial(FILE_CHECKS.on, "legacy/repo_file", rows=files, needs="crosswalk/crosswalk_repo_file")
IS_KEPT = (code(pl.col("status")) != "deleted").fill_null(True) & pl.col("_handled").is_null()
IS_LINKED = is_linked("certificate_id") | is_linked("document_id")


@repo_file()
def files_are_linked_or_deleted(look: Look) -> Find:
    """A11 pre-migration action 4, known issue 7: no file is an orphan, neither deleted nor linked to a certificate
    or document nor handled by Area 4. Orphans become documents for review."""
    status, files = {"orphans by status": pl.col("status")}, {"files": pl.lit(True)}
    return Find(IS_KEPT & ~IS_LINKED, show=("status", "intake_date"), values=status, counts=files)


@repo_file("ERROR", blocking=True)
def linked_files_were_handled_by_area_4(look: Look) -> Find:
    """A11 decision 1: every file with a certificate or document is in crosswalk_repo_file. Others are dropped, and
    Area 4 has to say what became of them."""
    return Find(IS_KEPT & IS_LINKED, show=("certificate_id", "document_id"))


@repo_file()
def orphans_have_no_attachment(look: Look) -> Find:
    """A11 decision 1: no orphan has an attachment_id, a link that Area 4 resolves."""
    return Find(IS_KEPT & ~IS_LINKED & is_linked("attachment_id"), show="attachment_id")


# --- legacy/imap_upload, legacy/form_field ----------------------------------------------------------------------------


def distinct_uploads(look: Look) -> pl.LazyFrame:
    same = look.legacy("imap_upload").group_by("sender", "filename", "filesize", maintain_order=True)
    return same.agg(pl.len().alias("uploads"), pl.col("_source_key").first())


@FILE_CHECKS.on("legacy/imap_upload", rows=distinct_uploads)
def uploads_are_distinct(look: Look) -> Find:
    """A11 known issue 9: no sender sent a file of the same name and size twice."""
    return Find(pl.col("uploads") > 1, show=("filename", "uploads"))


@FILE_CHECKS.on("legacy/form_field")
def form_fields_are_those_of_the_sample(look: Look) -> Find:
    """A11 pre-migration action 1, known issue 6: every row is of form vendor_view, model Vendorhistory, property
    custom_field_0. Others are listed: the decision needs to know them."""
    combination = pl.concat_str([pl.col(name).fill_null("NULL") for name in SAMPLED_FORM_FIELD], separator=" / ")
    return Find(
        pl.any_horizontal(pl.col(name).ne_missing(value) for name, value in SAMPLED_FORM_FIELD.items()),
        show=tuple(SAMPLED_FORM_FIELD),
        values={"others": combination},
        all_values={"form / model / property": combination},
        distinct=True,
        facts={"decision": look.chosen["form_field"]},
    )


# --- legacy/vornado_feed ----------------------------------------------------------------------------------------------

vornado = partial(FILE_CHECKS.on, "legacy/vornado_feed")


@vornado()
def leases_end(look: Look) -> Find:
    """A11 decision 11, known issue 2: no Lease End is 12/31/2050, which means that the lease never ends."""
    return Find(pl.col("Lease End") == NEVER_ENDS, show="Property Code")


@vornado(replaces=("Lease Start", "Lease End"))
def lease_dates_can_be_read(look: Look) -> Find:
    """A11 decision 11: lease dates are MM/DD/YYYY, empty or NULL."""
    dates = [pl.col(name) for name in ("Lease Start", "Lease End")]
    return Find(
        pl.any_horizontal((date != "").fill_null(False) & lease_day(date).is_null() for date in dates), show=dates
    )


@vornado(description=f"A11 decision 11: no text holds {' or '.join(TYPOS)}.")
def texts_have_no_known_typo(look: Look) -> Find:
    names = [name for name in look.rows.collect_schema().names() if not name.startswith("_")]
    texts = (pl.col(name).str.contains_any(list(TYPOS), ascii_case_insensitive=True).fill_null(False) for name in names)
    return Find(pl.any_horizontal(texts))


@FILE_CHECKS.on("legacy/vornado_feed")
@FILE_CHECKS.on("legacy/inactivated_billing_data")
@FILE_CHECKS.on("legacy/billing_data")
@FILE_CHECKS.on("legacy/repo_throughput")
def column_names_are_plain(look: Look) -> CheckOutcome:
    """A11 known issue 4: every column name is letters, digits and underscores. Others are archived as they are."""
    names: list[str] = look.manifest(*look.asset).metadata["columns"]
    special = [name for name in names if not name.replace("_", "a").isalnum() or not name.isascii()]
    return found(len(special), names=", ".join(special))
