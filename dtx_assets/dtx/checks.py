"""The asset checks of DTX: what the two plans want to know of the full data, and what its rules find there.

What holds for any table, mapped column, crosswalk, flow or target is in `machinery.checks`. Here are those of
exemptions, letters and accounts that are more than conditions on columns (those are in `mappings/dtx/checks.yaml`), and
which check covers which known issue and pre-migration action of the plans.
"""

import re
from collections.abc import Collection
from functools import partial

import polars as pl

from dtx_assets.dtx.exemptions import expiry_date, is_sentinel, sentinel_patterns
from dtx_assets.dtx.file_checks import FILE_CHECKS
from dtx_assets.dtx.letters import has_marker, macro_names
from dtx_assets.dtx.notification_checks import NOTIFICATION_CHECKS, users_are_found
from dtx_assets.machinery.checks.own import Asking, Checks, Count, Find, Look, Values
from dtx_assets.machinery.checks.spec import found, undecodable
from dtx_assets.machinery.checks.survey import listed, shown_values
from dtx_assets.machinery.checks.written import own_checks
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import code, date_value

LAST_PLAUSIBLE_YEAR = 2049
"""Of an expiry date; later ones are sentinels, listed or not (Area 11 action 5)."""


def irrelevant_decisions(decisions: Decisions) -> Collection[str]:
    """Which bit is which day is of no interest while no day is kept."""
    return ("dow_bit_order",) if decisions.chosen["dow_bitmap"] == "accept_gap" else ()


CHECKS = Checks(NOTIFICATION_CHECKS, FILE_CHECKS, irrelevant_decisions=irrelevant_decisions)

# --- legacy/exemption -------------------------------------------------------------------------------------------------

IS_COI, IS_DOCUMENT = (code(pl.col("item_type")) == name for name in ("coi", "document"))
EXPIRY = pl.col("ExemptExpDate")


@CHECKS.on("legacy/exemption")
def far_future_expiry_dates_are_listed_sentinels(look: Look) -> Asking:
    """A11 pre-migration action 5, known issue 2: a date after 2049 is one that sentinel_dates.csv lists.
    Listed ones become NULL (never expires); others are migrated as they are."""
    sentinel = is_sentinel(EXPIRY, sentinel_patterns(look.value_maps["sentinel_dates"]))
    far = (date_value(EXPIRY).dt.year() > LAST_PLAUSIBLE_YEAR) & ~sentinel
    others, sentinels = yield Find(far, show=EXPIRY, values={"unlisted": EXPIRY}), Find(sentinel, values={"d": EXPIRY})
    dates = shown_values(sentinels.values["d"])
    return others.outcome(**{"sentinels found": sentinels.count, "sentinel dates": dates})


# --- prepared/ManualOverride, prepared/DocRequirement -----------------------------------------------------------------

EXEMPTION = "legacy/exemption"
GROUPS, REQUIREMENTS = "mapping/requirements_group", "mapping/doc_requirement"
users_are_found(CHECKS, "ManualOverride", "exemption", "create_user_id", IS_COI)


def exempted(look: Look) -> pl.LazyFrame:
    """One row for each exemption that is migrated into the model of the look and each requirements group it lands in.

    Columns: `_source_key`, `vendor_id`, `ExemptExpDate`, `requirements_group_id`.
    """
    links = look.links(look.asset[1]).filter(pl.col("source_table") == "exemption")
    parts = links.select(_source_key="source_key", _row="source_row", part="parts")
    parts = parts.explode("part", empty_as_null=False, keep_nulls=False).with_columns(pl.col("part").cast(pl.Int64))
    if look.asset[1] == "DocRequirement":
        groups = look.mapping("doc_requirement").select("requirements_group_id", part="docrequirement_id")
        parts = parts.join(groups, on="part", maintain_order="left_right")
    else:
        parts = parts.with_columns(pl.col("part").alias("requirements_group_id"))
    legacy = look.legacy("exemption").select("_row", "_source_key", "vendor_id", "ExemptExpDate")
    return parts.join(legacy, on=["_row", "_source_key"], maintain_order="left").drop("_row", "part")


def reached(look: Look) -> pl.LazyFrame:
    """The same, with how many `other vendors` are in the group."""
    others = (pl.col("record_id").n_unique().cast(pl.Int64) - 1).alias("other vendors")
    members = look.mapping("requirements_group").group_by("requirements_group_id", maintain_order=True).agg(others)
    joined = exempted(look).join(members, on="requirements_group_id", how="left", maintain_order="left")
    return joined.unique(maintain_order=True)


def groups_of_each(look: Look) -> pl.LazyFrame:
    groups = pl.col("requirements_group_id").n_unique().alias("groups")
    return reached(look).group_by("_source_key", maintain_order=True).agg(pl.col("vendor_id").first(), groups)


@CHECKS.on("prepared/ManualOverride", rows=reached, needs=(EXEMPTION, GROUPS))
@CHECKS.on("prepared/DocRequirement", rows=reached, needs=(EXEMPTION, GROUPS, REQUIREMENTS))
def exemptions_concern_one_vendor(look: Look) -> Find:
    """A11 decision 7: the requirements group of an exemption has no other member record. One that has widens
    the exemption to the other vendors; it is migrated as the plan says."""
    group = pl.col("requirements_group_id").alias("group")
    return Find(pl.col("other vendors") > 0, show=("vendor_id", group, "other vendors"))


@CHECKS.on("prepared/ManualOverride", rows=groups_of_each, needs=(EXEMPTION, GROUPS))
@CHECKS.on("prepared/DocRequirement", rows=groups_of_each, needs=(EXEMPTION, GROUPS, REQUIREMENTS))
def exemptions_have_one_group(look: Look) -> Find:
    """A11 decision 7: the exempt vendor's record is in one requirements group."""
    return Find(pl.col("groups") > 1, show=("vendor_id", "groups"))


@CHECKS.on(
    "prepared/DocRequirement",
    rows=lambda look: exempted(look).unique("_source_key", maintain_order=True),
    needs=(EXEMPTION, REQUIREMENTS),
)
def document_exemptions_keep_their_expiry(look: Look) -> Find:
    """A11 decision 7: no document exemption ends on a date. DocRequirement has no expiry: it stands in the note
    only, and the exemption goes on after it."""
    ends = expiry_date(EXPIRY, sentinel_patterns(look.value_maps["sentinel_dates"]))
    return Find(ends.is_not_null(), show=("vendor_id", "ExemptExpDate"))


def named_documents(look: Look) -> pl.LazyFrame:
    """The exemptions with whether a document of the name they have, or get, is `_required`."""
    new_name = (
        look.value_maps["document_type"].lazy().select(_name=code(pl.col("item_name")), document_type="document_type")
    )
    required = look.mapping("doc_requirement").select(_name=code(pl.col("name")), _required=pl.lit(True))
    return (
        look.legacy("exemption")
        .with_columns(code(pl.col("item_name")).alias("_name"))
        .join(new_name, on="_name", how="left")
        .with_columns(pl.coalesce(code(pl.col("document_type")), "_name").alias("_name"))
        .join(required.unique(), on="_name", how="left", maintain_order="left")
    )


@CHECKS.on("prepared/DocRequirement", "ERROR", blocking=True, rows=named_documents, needs=(EXEMPTION, REQUIREMENTS))
def document_names_are_known(look: Look) -> Find:
    """A11 pre-migration action 2, known issue 5: the item_name of every DOCUMENT exemption is the name of a
    document type that some requirements group asks for, or document_type.csv renames it to one."""
    name = pl.col("item_name")
    do = "rename them in mappings/dtx/document_type.csv, or have Area 6 make the document types"
    unknown = IS_DOCUMENT & pl.col("_required").is_null()
    return Find(unknown, show=name, values={"names": name.str.strip_chars()}, distinct=True, facts={"do": do})


# --- legacy/letter, rejected/EmailTemplate ----------------------------------------------------------------------------

letter = partial(CHECKS.on, "legacy/letter")
BODY, SUBJECT = pl.col("letter_body"), pl.col("subject")
MACROS = pl.concat_list(macro_names(text).fill_null(pl.lit([], dtype=pl.List(pl.String))) for text in (BODY, SUBJECT))


@letter()
def macros_are_listed(look: Look) -> Asking:
    """A8 pre-migration action 3: the inventory of __MACRO__ placeholders; placeholders.csv lists each."""
    letters, macros = yield Count(pl.lit(True)), Values(MACROS)
    unlisted = macros.filter(~listed(pl.col("value"), look.value_maps["placeholders"]["macro"]))
    shown = {"unlisted": shown_values(unlisted), "letters": letters, "macros": shown_values(macros)}
    return found(unlisted.height, **shown)


@letter("ERROR", blocking=True)
def macros_are_confirmed_as_supported(look: Look) -> Asking:
    """A8 pre-migration action 3: of every macro someone has confirmed (confirmed_by in placeholders.csv) that
    DTX 2.0's get_record_context() supplies it."""
    macros = yield Values(MACROS)
    named = pl.col("confirmed_by").fill_null("").str.strip_chars() != ""
    # In a demonstration all that is listed counts as confirmed.
    confirmed = look.value_maps["placeholders"].filter(named | (look.decisions.demonstration is not None))
    unconfirmed = macros.filter(~listed(pl.col("value"), confirmed["macro"]))
    do = "have the DTX 2.0 team fill confirmed_by in mappings/dtx/placeholders.csv"
    shown = {"not confirmed": shown_values(unconfirmed), "distinct macros": macros.height, "do": do}
    return found(unconfirmed.height, **shown)


@letter()
def bodies_have_no_literal_braces(look: Look) -> Find:
    """A8 decision 4: no body holds { or } of its own, which would collide with {PLACEHOLDER} at rendering time."""
    around = BODY.str.extract(r"(.{0,20}[{}].{0,20})", 1).alias("around")
    return Find(BODY.str.contains(r"[{}]"), show=around, masked=("around",))


@letter()
def letters_are_in_one_language(look: Look) -> Find:
    """A8 known issue 8, decision bilingual_letters: no body has markers of Spanish and of English both."""
    markers = look.value_maps["spanish_markers"]
    spanish, english = (
        has_marker(BODY, markers.filter(code(pl.col("language")) == language)["marker"].to_list()).fill_null(False)
        for language in ("es", "en")
    )
    both = spanish & english
    language = pl.when(both).then(pl.lit("bilingual")).when(spanish).then(pl.lit("es")).otherwise(pl.lit("en"))
    decision = {"decision": look.chosen["bilingual_letters"]}
    return Find(both, show="subject", all_values={"languages": language}, facts=decision)


@letter("ERROR", replaces="subject")
def subjects_and_bodies_are_clean_text(look: Look) -> Find:
    """A8 decision 4: no subject or body holds a NUL or bytes that are not text; else the row is rejected."""
    ways = (
        pl.col(name).str.contains("\x00", literal=True).fill_null(False) | undecodable(name)
        for name in ("subject", "letter_body")
    )
    return Find(pl.any_horizontal(ways), show=("type", "selector"))


@CHECKS.on("rejected/EmailTemplate", "ERROR")
def letters_share_no_account_name_and_language(look: Look) -> Find:
    """A8 known issue 5: no two letters of an account have the same name and language; of several the latest counts."""
    return Find(pl.col("reasons").list.contains("duplicate_key"), show="partial")


# --- mapping/account --------------------------------------------------------------------------------------------------


def customers_of_accounts(look: Look) -> pl.LazyFrame:
    customers = pl.col("source_id")
    return (
        look.mapping("account")
        .filter(pl.col("target_id").is_not_null())
        .group_by("target_id", maintain_order=True)
        .agg(customers.n_unique().alias("number"), customers.sort().head(5).alias("customers"))
        .select(pl.col("target_id").cast(pl.String).alias("account"), "number", pl.col("customers").list.join(", "))
    )


@CHECKS.on("mapping/account", rows=customers_of_accounts)
def accounts_have_one_customer(look: Look) -> Find:
    """Of customers that map to one account, only one keeps its notifications, and their letters and webhooks meet."""
    return Find(pl.col("number") > 1, show=("customers", "number"))


# --- what of the plans they cover -------------------------------------------------------------------------------------


def covered_by(description: str) -> list[str]:
    """The actions (`A8-4`) and known issues (`A8-K7`) of the plans that a description begins with."""
    head = description.partition(":")[0]
    area = head.partition(" ")[0]
    actions, issues = (re.findall(rf"{kind} (\d+)", head) for kind in ("pre-migration action", "known issue"))
    return [*(f"{area}-{number}" for number in actions), *(f"{area}-K{number}" for number in issues)]


def covers(system: System) -> dict[str, tuple[str, ...]]:
    """Known issues and pre-migration actions of the plans → the checks (`layer/name:check`) that look at them."""
    found = {
        "A8-K5": ["legacy/letter:natural_key_is_unique"],
        "A11-K3": [
            f"legacy/{name}:{'natural_key_is_unique' if table.key else 'rows_are_distinct'}"
            for name, table in system.legacy_tables.items()
            if name == "keyword" or not table.key
        ],
    }
    for check in own_checks(system):
        for item in covered_by(check.spec.description):
            found.setdefault(item, []).append(f"{'/'.join(check.spec.asset)}:{check.spec.name}")
    return {item: tuple(checks) for item, checks in found.items()}
