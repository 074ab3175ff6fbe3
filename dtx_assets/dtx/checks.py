"""The asset checks of DTX: what the two plans want to know of the full data, and what its rules find there.

What holds for any table, crosswalk, flow or target is in `machinery.checks`; here is what only DTX has, and which check
covers which known issue and pre-migration action of the plans.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from dtx_assets.dtx.addresses import ADDRESS
from dtx_assets.dtx.exemptions import expiry_date, is_sentinel, sentinel_patterns
from dtx_assets.dtx.file_checks import FILE_CHECKS, WITH_SPECIAL_NAMES, lengths_of_latin1
from dtx_assets.dtx.flows.notification_schedule import (
    LONGEST_WAIT,
    LOOKUP_PREFIX,
    STAGES,
    Stage,
    counted_lookups,
)
from dtx_assets.dtx.letters import has_marker, macro_names
from dtx_assets.dtx.php import counts_latin1, fits_latin1_only, php_strings
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.checks.crosswalks import unmatched_ids
from dtx_assets.machinery.checks.spec import (
    CheckContext,
    CheckGroup,
    CheckOutcome,
    CheckSpec,
    found,
    one_group_an_asset,
)
from dtx_assets.machinery.checks.standard import standard_check_groups
from dtx_assets.machinery.checks.survey import RepeatedKeys, Survey, listed, repeated_keys, shown_values
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import canonical_integer, code, date_value, integer_value, timestamp_value

LAST_PLAUSIBLE_YEAR = 2049
"""Of an expiry date; later ones are sentinels, listed or not (Area 11 action 5)."""


def undecodable(column: str) -> pl.Expr:
    """Whether the bytes of the column are not text in the table's encoding."""
    return pl.col("_undecodable").list.eval(pl.element().struct.field("column") == column).list.any().fill_null(False)


def unreadable_time(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & timestamp_value(pl.col(column), "UTC").is_null()


# --- legacy/exemption -------------------------------------------------------------------------------------------------

EXEMPTION = ("legacy", "exemption")
EXEMPTION_SPECS = (
    CheckSpec(
        "far_future_expiry_dates_are_listed_sentinels",
        EXEMPTION,
        "A11 pre-migration action 5, known issue 2: a date after 2049 is one that sentinel_dates.csv lists. "
        "Listed ones become NULL (never expires); others are migrated as they are.",
    ),
    CheckSpec(
        "expiry_dates_can_be_read",
        EXEMPTION,
        "A11 decision 7: ExemptExpDate is NULL or a real date. 0000-00-00 and anything else rejects the row.",
        severity="ERROR",
    ),
    CheckSpec(
        "coverage_names_are_mapped",
        EXEMPTION,
        "A11 pre-migration action 2, known issue 5: coverage_type.csv lists the item_name of every COI exemption.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec("item_types_are_known", EXEMPTION, "A11 decision 7: item_type is COI or DOCUMENT.", severity="ERROR"),
    CheckSpec(
        "review_statuses_are_mapped",
        EXEMPTION,
        "A11 decision 7: every ExemptReviewStatus is COMPLIANT, as in the sample, or listed in exemption_status.csv.",
        severity="ERROR",
    ),
    CheckSpec(
        "reasons_have_no_trailing_white_space",
        EXEMPTION,
        "A11 known issue 8: ExemptReason does not end in white space, which is taken off.",
    ),
    CheckSpec(
        "create_times_can_be_read", EXEMPTION, "A11 decision 7: create_time, the time of approval, is a real time."
    ),
)


def evaluate_exemption(context: CheckContext) -> dict[str, CheckOutcome]:
    pattern = sentinel_patterns(context.value_maps["sentinel_dates"])
    date = pl.col("ExemptExpDate")
    sentinel = is_sentinel(date, pattern)
    far = (date_value(date).dt.year() > LAST_PLAUSIBLE_YEAR) & ~sentinel
    is_coi = code(pl.col("item_type")) == "coi"
    unmapped = is_coi & ~listed(pl.col("item_name"), context.value_maps["coverage_type"]["item_name"])
    other_type = ~code(pl.col("item_type")).is_in(["coi", "document"]).fill_null(False)
    status = pl.col("ExemptReviewStatus")
    known_status = listed(status, context.value_maps["exemption_status"]["ExemptReviewStatus"])
    trailing = pl.col("ExemptReason").str.contains(r"\s$")

    survey = Survey(context.legacy("exemption"), personal=SYSTEM.legacy_tables["exemption"].personal)
    survey.rows("sentinel", sentinel, value=date)
    survey.rows("far", far, show=("ExemptExpDate",), value=date)
    survey.rows("date", date.is_not_null() & date_value(date).is_null(), show=("ExemptExpDate",), value=date)
    survey.rows("coverage", unmapped, show=("item_name",), value=pl.col("item_name").str.strip_chars())
    survey.rows("type", other_type, show=("item_type",))
    survey.values("types", pl.col("item_type"))
    survey.rows("status", ~known_status, show=("ExemptReviewStatus",))
    survey.values("statuses", status)
    survey.rows("trailing", trailing, show=("ExemptReason",))
    survey.rows("time", unreadable_time("create_time"), show=("create_time",))
    answers = survey.answers()
    rows, values = answers.rows, answers.values
    return {
        "far_future_expiry_dates_are_listed_sentinels": rows["far"].outcome(
            unlisted=shown_values(values["far"]),
            **{"sentinels found": rows["sentinel"].count, "sentinel dates": shown_values(values["sentinel"])},
        ),
        "expiry_dates_can_be_read": rows["date"].outcome(values=shown_values(values["date"])),
        "coverage_names_are_mapped": found(
            values["coverage"].height,
            rows=rows["coverage"].count,
            names=shown_values(values["coverage"]),
            examples=rows["coverage"].examples,
            do="add the names to mappings/dtx/coverage_type.csv",
        ),
        "item_types_are_known": rows["type"].outcome(types=shown_values(values["types"])),
        "review_statuses_are_mapped": rows["status"].outcome(statuses=shown_values(values["statuses"])),
        "reasons_have_no_trailing_white_space": rows["trailing"].outcome(),
        "create_times_can_be_read": rows["time"].outcome(),
    }


# --- prepared/ManualOverride, prepared/DocRequirement -----------------------------------------------------------------


def exempted(context: CheckContext, model: str) -> pl.LazyFrame:
    """One row for each exemption that is migrated and each requirements group it lands in.

    Columns: `_source_key`, `vendor_id`, `ExemptExpDate`, `requirements_group_id`.
    """
    parts = (
        context.links(model)
        .filter(pl.col("source_table") == "exemption")
        .select(
            pl.col("source_key").alias("_source_key"), pl.col("source_row").alias("_row"), pl.col("parts").alias("part")
        )
        .explode("part", empty_as_null=False, keep_nulls=False)
        .with_columns(pl.col("part").cast(pl.Int64))
    )
    if model == "DocRequirement":
        groups = context.mapping("doc_requirement").select(
            pl.col("docrequirement_id").alias("part"), "requirements_group_id"
        )
        parts = parts.join(groups, on="part")
    else:
        parts = parts.with_columns(pl.col("part").alias("requirements_group_id"))
    legacy = context.legacy("exemption").select("_row", "_source_key", "vendor_id", "ExemptExpDate")
    return parts.join(legacy, on=["_row", "_source_key"]).select(
        "_source_key", "vendor_id", "ExemptExpDate", "requirements_group_id"
    )


def exempted_group_checks(model: str) -> CheckGroup:
    """Whom the exemptions of a model reach beside the vendor they are for."""
    asset = ("prepared", model)
    specs = (
        CheckSpec(
            "exemptions_concern_one_vendor",
            asset,
            "A11 decision 7: the requirements group of an exemption has no other member record. One that has widens "
            "the exemption to the other vendors; it is migrated as the plan says.",
        ),
        CheckSpec(
            "exemptions_have_one_group",
            asset,
            "A11 decision 7: the exempt vendor's record is in one requirements group.",
        ),
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        members = (
            context.mapping("requirements_group")
            .group_by("requirements_group_id")
            .agg((pl.col("record_id").n_unique().cast(pl.Int64) - 1).alias("other vendors"))
        )
        reached = exempted(context, model).join(members, on="requirements_group_id", how="left").unique()
        widened = Survey(reached)
        widened.rows(
            "widened",
            pl.col("other vendors") > 0,
            show=("vendor_id", pl.col("requirements_group_id").alias("group"), "other vendors"),
        )
        several = Survey(
            reached.group_by("_source_key").agg(
                pl.col("vendor_id").first(), pl.col("requirements_group_id").n_unique().alias("groups")
            )
        )
        several.rows("several", pl.col("groups") > 1, show=("vendor_id", "groups"))
        return {
            "exemptions_concern_one_vendor": widened.answers().rows["widened"].outcome(),
            "exemptions_have_one_group": several.answers().rows["several"].outcome(),
        }

    needs = [asset, EXEMPTION, ("mapping", "requirements_group")]
    if model == "DocRequirement":
        needs.append(("mapping", "doc_requirement"))
    return CheckGroup(asset, specs, evaluate, tuple(needs))


def users_are_found(model: str, table: str, column: str, where: pl.Expr | None = None) -> CheckGroup:
    """Whether the users of a model's source rows are in the crosswalk; one who is not becomes NULL."""
    asset = ("prepared", model)
    spec = CheckSpec(
        "users_are_found", asset, f"Every {table}.{column} is a user of DTX 2.0; one who is not found becomes NULL."
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        frame = context.legacy(table)
        unmatched = unmatched_ids(frame if where is None else frame.filter(where), column, context.mapping("user"))
        return {spec.name: found(unmatched.ids, **unmatched.described())}

    return CheckGroup(asset, (spec,), evaluate, (asset, ("legacy", table), ("mapping", "user")))


DOC_REQUIREMENT = ("prepared", "DocRequirement")
DOC_REQUIREMENT_SPECS = (
    CheckSpec(
        "document_exemptions_keep_their_expiry",
        DOC_REQUIREMENT,
        "A11 decision 7: no document exemption ends on a date. DocRequirement has no expiry: it stands in the note "
        "only, and the exemption goes on after it.",
    ),
    CheckSpec(
        "document_names_are_known",
        DOC_REQUIREMENT,
        "A11 pre-migration action 2, known issue 5: the item_name of every DOCUMENT exemption is the name of a "
        "document type that some requirements group asks for, or document_type.csv renames it to one.",
        severity="ERROR",
        blocking=True,
    ),
)


def evaluate_doc_requirement(context: CheckContext) -> dict[str, CheckOutcome]:
    pattern = sentinel_patterns(context.value_maps["sentinel_dates"])
    ending = Survey(exempted(context, "DocRequirement").unique("_source_key"))
    ends = expiry_date(pl.col("ExemptExpDate"), pattern)
    ending.rows("ending", ends.is_not_null(), show=("vendor_id", "ExemptExpDate"))

    item_name = code(pl.col("item_name"))
    renamed = (
        context.value_maps["document_type"].lazy().select(code(pl.col("item_name")).alias("_name"), "document_type")
    )
    required = context.mapping("doc_requirement").select(
        code(pl.col("name")).alias("_name"), pl.lit(True).alias("_required")
    )
    named = (
        context.legacy("exemption")
        .with_columns(item_name.alias("_name"))
        .join(renamed, on="_name", how="left")
        .with_columns(pl.coalesce(code(pl.col("document_type")), "_name").alias("_name"))
        .join(required.unique(), on="_name", how="left", maintain_order="left")
    )
    unknown = (code(pl.col("item_type")) == "document") & pl.col("_required").is_null()
    survey = Survey(named)
    survey.rows("unknown", unknown, show=("item_name",), value=pl.col("item_name").str.strip_chars())
    answers = survey.answers()
    return {
        "document_exemptions_keep_their_expiry": ending.answers().rows["ending"].outcome(),
        "document_names_are_known": found(
            answers.values["unknown"].height,
            rows=answers.rows["unknown"].count,
            names=shown_values(answers.values["unknown"]),
            examples=answers.rows["unknown"].examples,
            do="rename them in mappings/dtx/document_type.csv, or have Area 6 make the document types",
        ),
    }


# --- legacy/notification ----------------------------------------------------------------------------------------------

NOTIFICATION = ("legacy", "notification")
NOTIFICATION_SPECS = (
    CheckSpec(
        "send_hold_values_are_known",
        NOTIFICATION,
        "A8 pre-migration action 4, known issue 7: the variety of send_hold; each value is SEND or HOLD.",
    ),
    CheckSpec(
        "dow_bitmap_values_are_bitmaps",
        NOTIFICATION,
        "A8 pre-migration action 4, known issue 7: the variety of dow_bitmap; each value is NULL or from 0 to 127.",
    ),
    CheckSpec(
        "types_are_known",
        NOTIFICATION,
        "A8 pre-migration action 4, known issue 7: the variety of type; each value is COI or DOCUMENT.",
    ),
    CheckSpec(
        "data_supports_the_chosen_dow_bit_order",
        NOTIFICATION,
        "A8 pre-migration action 2, known issue 3: which day is which bit, as the data has it, and whether "
        "dow_bit_order says the same. An error where decision dow_bitmap keeps the days.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec(
        "timing_semantics_are_confirmed_by_people_and_data",
        NOTIFICATION,
        "A8 pre-migration action 1, known issue 2: decision timing_semantics is confirmed, and no settings "
        "contradict it. A wait that is shorter than one before it cannot count from the same day.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec(
        "settings_are_days",
        NOTIFICATION,
        "A8 decision 1: each setting that the row's type uses is NULL or a whole number from 0 to 3650; "
        "others reject the row.",
        severity="ERROR",
    ),
    CheckSpec(
        "timings_are_before_or_after",
        NOTIFICATION,
        "A8 decision 1: where a setting is there, its Timing is Before or After; others reject the row.",
        severity="ERROR",
    ),
    CheckSpec(
        "create_times_can_be_read", NOTIFICATION, "A8 decision 1: create_time is a real time; others become NULL."
    ),
    CheckSpec(
        "customers_have_one_row_a_type",
        NOTIFICATION,
        "A8 decision 1: a customer has one row for COI and one for DOCUMENT; of several, one counts.",
        severity="ERROR",
    ),
)

BitOrder = Literal["sunday_first", "monday_first", "undecided"]


@dataclass(frozen=True)
class BitOrderEvidence:
    """How many rows speak for each order of the bits: their days are working days under that one alone."""

    state: BitOrder
    sunday_first: int
    monday_first: int
    masks: dict[str, int]


def bit_order_evidence(bitmaps: pl.DataFrame) -> BitOrderEvidence:
    """What a tally (`value` as an integer, `rows`) says about the order of the bits.

    Companies write on working days. Bit 32 is Friday if Sunday comes first, else Saturday; bit 1 is Sunday, else
    Monday. So a mask of working days that has bit 32 speaks for Sunday first, one that has bit 1 for Monday first; 0
    and 127 say nothing. One order is supported when it has at least twice the rows of the other.
    """
    value = pl.col("value")
    telling = bitmaps.filter(value.is_between(1, 126)).with_columns(
        ((value & (1 | 64) == 0) & (value & 32 != 0)).alias("sunday_first"),
        ((value & (32 | 64) == 0) & (value & 1 != 0)).alias("monday_first"),
    )
    sunday, monday = (int(telling.filter(pl.col(order))["rows"].sum()) for order in ("sunday_first", "monday_first"))
    state: BitOrder = "undecided"
    if sunday > 0 and sunday >= 2 * monday:
        state = "sunday_first"
    elif monday > 0 and monday >= 2 * sunday:
        state = "monday_first"
    return BitOrderEvidence(state, sunday, monday, shown_values(telling.select("value", "rows")))


def bit_order_outcome(evidence: BitOrderEvidence, decisions: Mapping[str, str]) -> CheckOutcome:
    chosen, kept = decisions["dow_bit_order"], decisions["dow_bitmap"] != "accept_gap"
    against = {"sunday_first": evidence.monday_first, "monday_first": evidence.sunday_first}[chosen]
    return CheckOutcome(
        evidence.state in (chosen, "undecided"),
        against,
        {
            "the data supports": evidence.state,
            "chosen": chosen,
            "rows that speak for Sunday first (62 is Monday to Friday)": evidence.sunday_first,
            "rows that speak for Monday first (31 is Monday to Friday)": evidence.monday_first,
            "bitmaps": evidence.masks,
            "matters": f"{'yes' if kept else 'no'}: dow_bitmap is {decisions['dow_bitmap']}",
        },
        "ERROR" if kept else "WARN",
    )


def timing_chains() -> dict[str, tuple[str, list[str]]]:
    """The settings that add up under `incremental`: name of the chain → (prefix, setting columns in order)."""
    chains: dict[str, tuple[str, list[str]]] = {}
    for prefix, stages in STAGES.items():
        for stage in stages:
            if stage.chain and stage.setting:
                chains.setdefault(f"{prefix}{stage.suffix}", (prefix, []))[1].append(stage.setting)
    return chains


def with_days(notifications: pl.LazyFrame) -> pl.LazyFrame:
    """Adds each setting in days, read once for all questions; null where it is none: nonsense is no evidence."""
    settings = [name for name in SYSTEM.legacy_tables["notification"].columns if name.endswith("Setting")]
    return notifications.with_columns(
        pl.when(integer_value(pl.col(name)).is_between(0, LONGEST_WAIT))
        .then(integer_value(pl.col(name)))
        .alias(f"_days:{name}")
        for name in settings
    )


def days_of(setting: str) -> pl.Expr:
    return pl.col(f"_days:{setting}")


def steps(settings: Sequence[str]) -> list[tuple[pl.Expr, pl.Expr]]:
    """Each setting of a chain but the first, with the longest of those before it; NULL settings are passed over."""
    days = [days_of(name) for name in settings]
    return [(days[place], pl.max_horizontal(days[:place])) for place in range(1, len(days))]


def falls(settings: Sequence[str]) -> pl.Expr:
    """Whether a setting is less than one before it."""
    return pl.any_horizontal((later < earlier).fill_null(False) for later, earlier in steps(settings))


def rises(settings: Sequence[str]) -> pl.Expr:
    """Whether there are two settings or more, and each is more than all before it."""
    rising = pl.all_horizontal((later > earlier).fill_null(True) for later, earlier in steps(settings))
    return rising & has_several(settings)


def has_several(settings: Sequence[str]) -> pl.Expr:
    return pl.sum_horizontal(days_of(name).is_not_null() for name in settings) > 1


@dataclass(frozen=True)
class TimingEvidence:
    """Chains of settings with two or more of them: all, those in which a wait falls, those that only rise."""

    chains: int
    falling: int
    rising: int

    @property
    def supports(self) -> str:
        """`incremental` where a wait falls, which offsets from one day never do; `cumulative` where nearly all rise."""
        if self.falling * 100 > self.chains:
            return "incremental"
        if self.chains and not self.falling and self.rising * 100 >= self.chains * 95:
            return "cumulative"
        return "undecided"


def timing_outcome(evidence: TimingEvidence, by_chain: Mapping[str, object], decisions: Decisions) -> CheckOutcome:
    """Fails while the decision is open, and where the data contradicts what was chosen.

    A wait that falls disproves `cumulative`; waits that rise only make `incremental` doubtful, which is a warning.
    """
    entry, chosen = decisions.entry("timing_semantics"), decisions.chosen["timing_semantics"]
    is_open = entry.status == "open"
    against = {"cumulative": evidence.falling, "incremental": evidence.rising}[chosen]
    contradicted = evidence.supports not in (chosen, "undecided")
    return CheckOutcome(
        not is_open and not contradicted,
        against if contradicted else int(is_open),
        {
            "decision": f"{chosen}, {'open' if is_open else 'confirmed'}",
            "to be confirmed by": entry.confirm_by,
            "the data supports": evidence.supports,
            "chains of two settings or more": evidence.chains,
            "in which a wait is shorter than one before it (cannot be cumulative)": evidence.falling,
            "in which every wait is longer than those before it (may be cumulative)": evidence.rising,
            "by chain": dict(by_chain),
        },
        "WARN" if not is_open and chosen == "incremental" else "ERROR",
    )


def stages_of_columns(column_of: Callable[[Stage], str]) -> dict[str, tuple[Stage, list[str]]]:
    """Each column that stages read → such a stage, and the prefixes of the row types that have it."""
    users: dict[str, tuple[Stage, list[str]]] = {}
    for prefix, stages in STAGES.items():
        for stage in stages:
            if stage.setting is not None:
                users.setdefault(column_of(stage), (stage, []))[1].append(prefix)
    return {column: users[column] for column in users if column in SYSTEM.legacy_tables["notification"].columns}


def wrong_settings() -> dict[str, pl.Expr]:
    """Setting → whether the row's type (`_prefix`) uses it and it is no whole number of days."""
    return {
        column: pl.col("_prefix").is_in(prefixes) & pl.col(column).is_not_null() & days_of(column).is_null()
        for column, (_, prefixes) in stages_of_columns(lambda stage: str(stage.setting)).items()
    }


def wrong_timings() -> dict[str, pl.Expr]:
    """Timing → whether the row's type (`_prefix`) uses it, its setting is there, and it is neither Before nor After."""
    return {
        column: pl.col("_prefix").is_in(prefixes)
        & pl.col(str(stage.setting)).is_not_null()
        & ~code(pl.col(column)).is_in(["before", "after"]).fill_null(False)
        for column, (stage, prefixes) in stages_of_columns(lambda stage: stage.timing).items()
    }


def named_values(wrong: Mapping[str, pl.Expr]) -> pl.Expr:
    """List of `column = value` for the columns of a row that are wrong."""
    return pl.concat_list(
        pl.when(when).then(pl.format(f"{column} = {{}}", pl.col(column).str.head(20).fill_null("NULL")))
        for column, when in wrong.items()
    ).list.drop_nulls()


def evaluate_notification(context: CheckContext) -> dict[str, CheckOutcome]:
    known = context.value_maps["notification_type"]
    prefix = pl.coalesce(
        pl.when(code(pl.col("type")) == name.strip().lower()).then(pl.lit(prefix))
        for name, prefix in known.select("type", "prefix").iter_rows()
    )
    bitmap, send_hold = integer_value(pl.col("dow_bitmap")), pl.col("send_hold")
    frame = with_days(context.legacy("notification").with_columns(prefix.alias("_prefix")))
    survey = Survey(frame)
    survey.rows("send_hold", ~listed(send_hold, context.value_maps["send_hold"]["send_hold"]), show=("send_hold",))
    survey.values("send_hold", send_hold)
    survey.rows(
        "bitmap", pl.col("dow_bitmap").is_not_null() & ~bitmap.is_between(0, 127).fill_null(False), show=("dow_bitmap",)
    )
    survey.values("dow_bitmap", pl.col("dow_bitmap"))
    survey.values("bitmaps", bitmap)
    survey.rows("type", pl.col("_prefix").is_null(), show=("type",))
    survey.values("type", pl.col("type"))
    for name, wrong in (("settings", wrong_settings()), ("timings", wrong_timings())):
        named = named_values(wrong)
        survey.rows(name, pl.any_horizontal(*wrong.values()), show=(named.list.join("; ").alias(name),), value=named)
    survey.rows("time", unreadable_time("create_time"), show=("create_time",))
    chains = timing_chains()
    for chain, (own, columns) in chains.items():
        mine = pl.col("_prefix") == own
        survey.count(f"chains {chain}", mine & has_several(columns))
        survey.count(f"falling {chain}", mine & falls(columns))
        survey.count(f"rising {chain}", mine & rises(columns))
    answers = survey.answers()
    rows, values = answers.rows, answers.values

    by_chain = {
        chain: {kind: rows[f"{kind} {chain}"].count for kind in ("chains", "falling", "rising")} for chain in chains
    }
    evidence = TimingEvidence(
        *(sum(counts[kind] for counts in by_chain.values()) for kind in ("chains", "falling", "rising"))
    )
    customer, type_ = canonical_integer(pl.col("customer_id")), code(pl.col("type"))
    again = repeated_keys(
        frame.filter(customer.is_not_null() & type_.is_not_null()), [customer, type_], ["_source_key"]
    )
    return {
        "send_hold_values_are_known": rows["send_hold"].outcome(values=shown_values(values["send_hold"])),
        "dow_bitmap_values_are_bitmaps": rows["bitmap"].outcome(values=shown_values(values["dow_bitmap"])),
        "types_are_known": rows["type"].outcome(values=shown_values(values["type"])),
        "data_supports_the_chosen_dow_bit_order": bit_order_outcome(
            bit_order_evidence(values["bitmaps"]), context.decisions.chosen
        ),
        "timing_semantics_are_confirmed_by_people_and_data": timing_outcome(evidence, by_chain, context.decisions),
        "settings_are_days": rows["settings"].outcome(settings=shown_values(values["settings"])),
        "timings_are_before_or_after": rows["timings"].outcome(timings=shown_values(values["timings"])),
        "create_times_can_be_read": rows["time"].outcome(),
        "customers_have_one_row_a_type": repeated_outcome(again),
    }


def repeated_outcome(repeated: RepeatedKeys) -> CheckOutcome:
    return found(repeated.identical + repeated.differing, keys=repeated.keys, examples=repeated.examples)


# --- legacy/notification_lookup, legacy/notification_audit ------------------------------------------------------------

LOOKUP = ("legacy", "notification_lookup")
LOOKUP_SPECS = (
    CheckSpec(
        "named_notifications_exist", LOOKUP, "A8 decision 2: the notification rows that a lookup row names exist."
    ),
    CheckSpec(
        "named_notifications_are_the_customers_own",
        LOOKUP,
        "A8 decision 2: the notification rows that a lookup row names are of its customer and of the type that it "
        "names them for.",
    ),
    CheckSpec(
        "customers_have_one_lookup_row",
        LOOKUP,
        "A8 decision 2: each customer has one lookup row; of several the last one counts.",
    ),
    CheckSpec(
        "send_hold_overrides_agree_with_notification",
        LOOKUP,
        "A8 decisions 2 and 7: coi_send_hold and doc_send_hold say what the customer's notification row says; "
        "where they do not, decision send_hold_override says which counts.",
    ),
    CheckSpec(
        "send_hold_overrides_are_known",
        LOOKUP,
        "A8 decision 7: each override is NULL, SEND or HOLD; under lookup_wins others reject the notification row.",
        severity="ERROR",
    ),
)


def evaluate_lookup(context: CheckContext) -> dict[str, CheckOutcome]:
    lookup, notification = context.legacy("notification_lookup"), context.legacy("notification")
    customer = canonical_integer(pl.col("customer_id")).alias("_customer")
    own = notification.select(
        canonical_integer(pl.col("notification_id")).alias("_named"),
        customer.alias("_whose"),
        code(pl.col("type")).alias("_type"),
    )
    named = pl.concat(
        lookup.select(
            "_source_key",
            customer,
            pl.lit(name).alias("named for"),
            pl.coalesce(canonical_integer(pl.col(f"{short}_notification_id")), f"{short}_notification_id").alias(
                "_named"
            ),
        )
        for name, short in lookup_types().items()
    )
    names = Survey(named.filter(pl.col("_named").is_not_null()).join(own, on="_named", how="left"))
    shown = ("named for", pl.col("_named").alias("notification_id"))
    # A row without a customer is nobody's, and so is one without a type no row of the type that was meant.
    exists = pl.col("_whose").is_not_null() | pl.col("_type").is_not_null()
    foreign = exists & (
        pl.col("_whose").ne_missing(pl.col("_customer")) | pl.col("_type").ne_missing(pl.col("named for"))
    )
    names.rows("missing", ~exists, show=shown)
    names.rows(
        "foreign", foreign, show=(*shown, pl.col("_whose").alias("of customer"), pl.col("_type").alias("of type"))
    )
    named_rows = names.answers().rows

    last = counted_lookups(lookup).select(
        "_customer",
        *(
            pl.col(f"{short}_{what}").alias(f"{name} {what}")
            for name, short in lookup_types().items()
            for what in OVERRIDDEN
        ),
    )
    beside = notification.select("_source_key", customer, code(pl.col("type")).alias("_type"), *OVERRIDDEN).join(
        last, on="_customer"
    )
    override = {
        what: pl.coalesce(pl.when(pl.col("_type") == name).then(pl.col(f"{name} {what}")) for name in lookup_types())
        for what in OVERRIDDEN
    }
    conflicts = Survey(beside)
    conflicts.rows(
        "send_hold",
        code(override["send_hold"]) != code(pl.col("send_hold")),
        show=("send_hold", override["send_hold"].alias("override")),
    )
    conflicts.count("overridden", override["send_hold"].is_not_null())
    conflicts.count("dow_bitmap", integer_value(override["dow_bitmap"]) != integer_value(pl.col("dow_bitmap")))
    conflict_rows = conflicts.answers().rows

    survey = Survey(lookup)
    unknown = {
        f"{short}_send_hold": pl.col(f"{short}_send_hold").is_not_null()
        & ~listed(pl.col(f"{short}_send_hold"), context.value_maps["send_hold"]["send_hold"])
        for short in lookup_types().values()
    }
    survey.rows("unknown", pl.any_horizontal(*unknown.values()), show=tuple(unknown))
    known = survey.answers().rows["unknown"].outcome()
    if context.decisions.chosen["send_hold_override"] != "lookup_wins":
        known.severity = "WARN"

    again = repeated_keys(lookup, [canonical_integer(pl.col("customer_id"))], ["_row"])
    return {
        "named_notifications_exist": named_rows["missing"].outcome(),
        "named_notifications_are_the_customers_own": named_rows["foreign"].outcome(),
        "customers_have_one_lookup_row": repeated_outcome(again),
        "send_hold_overrides_agree_with_notification": conflict_rows["send_hold"].outcome(
            **{
                "notification rows with an override": conflict_rows["overridden"].count,
                "dow_bitmap differs": conflict_rows["dow_bitmap"].count,
                "decision": context.decisions.chosen["send_hold_override"],
            }
        ),
        "send_hold_overrides_are_known": known,
    }


OVERRIDDEN = ("send_hold", "dow_bitmap")


def lookup_types() -> dict[str, str]:
    """Type of a notification row, as codes are compared → the prefix of the lookup table's columns for it."""
    return {prefix.rstrip("_"): short for prefix, short in LOOKUP_PREFIX.items()}


AUDIT = ("legacy", "notification_audit")
AUDIT_SPECS = (
    CheckSpec(
        "restart_columns_are_there",
        AUDIT,
        "A8 known issue 4: the audit table has the Restart columns of notification. It is archived, not migrated.",
    ),
)


def evaluate_audit(context: CheckContext) -> dict[str, CheckOutcome]:
    columns = context.manifest(*AUDIT).metadata["columns"]
    missing = [
        name for name in SYSTEM.legacy_tables["notification"].columns if "Restart" in name and name not in columns
    ]
    return {"restart_columns_are_there": found(len(missing), missing=missing)}


# --- legacy/notification_webhook --------------------------------------------------------------------------------------

WEBHOOK = ("legacy", "notification_webhook")
WEBHOOK_SPECS = (
    CheckSpec(
        "php_values_can_be_read",
        WEBHOOK,
        "A8 known issue 1: every webhook is empty or a PHP-serialised array or string without objects.",
        severity="ERROR",
    ),
    CheckSpec(
        "selectors_are_mapped",
        WEBHOOK,
        "A8 pre-migration action 5: webhook_selector.csv lists every selector.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec("types_are_known", WEBHOOK, "A8 decision 1: each type is COI or DOCUMENT.", severity="ERROR"),
    CheckSpec(
        "addresses_are_valid",
        WEBHOOK,
        "A8 decision 1: every recipient is an e-mail address. A row without a valid one is rejected, an error.",
    ),
)


def evaluate_webhook(context: CheckContext) -> dict[str, CheckOutcome]:
    valid = pl.element().str.strip_chars().str.contains(ADDRESS)
    php = pl.col("_php").struct
    frame = (
        context.legacy("notification_webhook")
        .with_columns(
            php_strings(pl.col("webhook"), latin1_lengths=counts_latin1(context.decisions.chosen)).alias("_php"),
            fits_latin1_only(pl.col("webhook")).alias("_latin1"),
        )
        .select(
            "_latin1",
            "_source_key",
            "type",
            "selector",
            php.field("status"),
            php.field("detail"),
            php.field("strings").list.eval(pl.element().filter(valid)).list.len().alias("_valid"),
            pl.concat_list(php.field("strings").list.eval(pl.element().filter(~valid)), php.field("others")).alias(
                "_invalid"
            ),
        )
    )
    selector, readable = pl.col("selector"), pl.col("status") == "ok"
    unmapped = ~listed(selector, context.value_maps["webhook_selector"]["selector"])
    unknown = ~listed(pl.col("type"), context.value_maps["notification_type"]["type"])
    survey = Survey(frame, personal={"not an address"})
    # Where in the value the reader stopped is of no use over many values.
    why = pl.col("detail").str.replace_all(r"\d+", "…")
    survey.rows("php", pl.col("status") == "unparseable", show=("detail",), value=why)
    survey.count("empty", pl.col("status") == "empty")
    survey.count("latin1", pl.col("_latin1"))
    survey.rows("selector", unmapped, show=("selector",), value=selector.str.strip_chars())
    survey.values("selectors", selector.str.strip_chars())
    survey.rows("type", unknown, show=("type",))
    survey.values("types", pl.col("type"))
    survey.rows(
        "invalid",
        readable & (pl.col("_invalid").list.len() > 0),
        show=(pl.col("_invalid").list.first().alias("not an address"),),
    )
    survey.count("none", readable & (pl.col("_valid") == 0))
    answers = survey.answers()
    rows, values = answers.rows, answers.values
    addresses = rows["invalid"].outcome(**{"rows without a valid address": rows["none"].count})
    if rows["none"].count:
        addresses.passed, addresses.severity = False, "ERROR"
    return {
        "php_values_can_be_read": rows["php"].outcome(
            why=shown_values(values["php"]),
            **{"empty values": rows["empty"].count, "values": answers.total},
            **lengths_of_latin1(rows["latin1"].count),
        ),
        "selectors_are_mapped": found(
            values["selector"].height,
            rows=rows["selector"].count,
            unmapped=shown_values(values["selector"]),
            all=shown_values(values["selectors"]),
            do="add the selectors to mappings/dtx/webhook_selector.csv",
        ),
        "types_are_known": rows["type"].outcome(types=shown_values(values["types"])),
        "addresses_are_valid": addresses,
    }


# --- legacy/letter ----------------------------------------------------------------------------------------------------

LETTER = ("legacy", "letter")
UNUSED_LETTER_COLUMNS = ("name", "addl_email", "internal_reference_name")
LETTER_SPECS = (
    CheckSpec(
        "macros_are_listed",
        LETTER,
        "A8 pre-migration action 3: the inventory of __MACRO__ placeholders; placeholders.csv lists each.",
    ),
    CheckSpec(
        "macros_are_confirmed_as_supported",
        LETTER,
        "A8 pre-migration action 3: of every macro someone has confirmed (confirmed_by in placeholders.csv) that "
        "DTX 2.0's get_record_context() supplies it.",
        severity="ERROR",
        blocking=True,
    ),
    CheckSpec(
        "bodies_have_no_literal_braces",
        LETTER,
        "A8 decision 4: no body holds { or } of its own, which would collide with {PLACEHOLDER} at rendering time.",
    ),
    CheckSpec(
        "letters_are_in_one_language",
        LETTER,
        "A8 known issue 8, decision bilingual_letters: no body has markers of Spanish and of English both.",
    ),
    CheckSpec(
        "type_selector_and_body_are_there",
        LETTER,
        "A8 decision 4: type, selector and letter_body are not NULL; else the row is rejected.",
        severity="ERROR",
    ),
    CheckSpec(
        "edit_times_can_be_read",
        LETTER,
        "A8 decision 4: edit_time is a real time; the latest of several letters counts.",
    ),
    CheckSpec(
        "subjects_and_bodies_are_clean_text",
        LETTER,
        "A8 decision 4: no subject or body holds a NUL or bytes that are not text; else the row is rejected.",
        severity="ERROR",
    ),
    CheckSpec(
        "dropped_columns_are_empty",
        LETTER,
        "A8 decision 4: name, addl_email and internal_reference_name, which are dropped, are NULL as in the sample.",
    ),
)


def evaluate_letter(context: CheckContext) -> dict[str, CheckOutcome]:
    body, subject = pl.col("letter_body"), pl.col("subject")
    markers = context.value_maps["spanish_markers"]
    spanish, english = (
        has_marker(body, markers.filter(code(pl.col("language")) == language)["marker"].to_list()).fill_null(False)
        for language in ("es", "en")
    )
    missing = pl.any_horizontal(pl.col(name).is_null() for name in ("type", "selector", "letter_body"))
    unclean = pl.any_horizontal(
        pl.col(name).str.contains("\x00", literal=True).fill_null(False) | undecodable(name)
        for name in ("subject", "letter_body")
    )
    kept = pl.any_horizontal((pl.col(name).fill_null("").str.strip_chars() != "") for name in UNUSED_LETTER_COLUMNS)
    brace = body.str.contains(r"[{}]")
    macros = pl.concat_list(
        macro_names(body).fill_null(pl.lit([], dtype=pl.List(pl.String))),
        macro_names(subject).fill_null(pl.lit([], dtype=pl.List(pl.String))),
    )
    survey = Survey(context.legacy("letter"), personal=SYSTEM.legacy_tables["letter"].personal | {"around"})
    survey.values("macros", macros)
    survey.rows("brace", brace, show=(body.str.extract(r"(.{0,20}[{}].{0,20})", 1).alias("around"),))
    survey.rows("bilingual", spanish & english, show=("subject",))
    survey.values(
        "language",
        pl.when(spanish & english).then(pl.lit("bilingual")).when(spanish).then(pl.lit("es")).otherwise(pl.lit("en")),
    )
    survey.rows("missing", missing, show=("type", "selector"))
    survey.rows("time", unreadable_time("edit_time"), show=("edit_time",))
    survey.rows("unclean", unclean, show=("type", "selector"))
    survey.rows("kept", kept, show=UNUSED_LETTER_COLUMNS)
    answers = survey.answers()
    rows = answers.rows

    inventory = answers.values["macros"]
    placeholders = context.value_maps["placeholders"]
    confirmed = placeholders.filter(pl.col("confirmed_by").fill_null("").str.strip_chars() != "")["macro"]
    unlisted = inventory.filter(~listed(pl.col("value"), placeholders["macro"]))
    unconfirmed = inventory.filter(~listed(pl.col("value"), confirmed))
    return {
        "macros_are_listed": found(
            unlisted.height, unlisted=shown_values(unlisted), letters=answers.total, macros=shown_values(inventory)
        ),
        "macros_are_confirmed_as_supported": found(
            unconfirmed.height,
            **{
                "not confirmed": shown_values(unconfirmed),
                "distinct macros": inventory.height,
                "do": "have the DTX 2.0 team fill confirmed_by in mappings/dtx/placeholders.csv",
            },
        ),
        "bodies_have_no_literal_braces": rows["brace"].outcome(),
        "letters_are_in_one_language": rows["bilingual"].outcome(
            languages=shown_values(answers.values["language"]), decision=context.decisions.chosen["bilingual_letters"]
        ),
        "type_selector_and_body_are_there": rows["missing"].outcome(),
        "edit_times_can_be_read": rows["time"].outcome(),
        "subjects_and_bodies_are_clean_text": rows["unclean"].outcome(),
        "dropped_columns_are_empty": rows["kept"].outcome(),
    }


REJECTED_LETTERS = ("rejected", "EmailTemplate")
REJECTED_LETTERS_SPECS = (
    CheckSpec(
        "letters_share_no_account_name_and_language",
        REJECTED_LETTERS,
        "A8 known issue 5: no two letters of an account have the same name and language; of several the latest counts.",
        severity="ERROR",
    ),
)


def evaluate_rejected_letters(context: CheckContext) -> dict[str, CheckOutcome]:
    survey = Survey(context.rejected("EmailTemplate"), key="source_key")
    survey.rows("again", pl.col("reasons").list.contains("duplicate_key"), show=("partial",))
    return {"letters_share_no_account_name_and_language": survey.answers().rows["again"].outcome()}


# --- mapping/account --------------------------------------------------------------------------------------------------

ACCOUNT = ("mapping", "account")
ACCOUNT_SPECS = (
    CheckSpec(
        "accounts_have_one_customer",
        ACCOUNT,
        "Of customers that map to one account, only one keeps its notifications, and their letters and webhooks meet.",
    ),
)


def evaluate_account(context: CheckContext) -> dict[str, CheckOutcome]:
    accounts = (
        context.mapping("account")
        .filter(pl.col("target_id").is_not_null())
        .group_by("target_id")
        .agg(pl.col("source_id").n_unique().alias("number"), pl.col("source_id").sort().head(5).alias("customers"))
        .with_columns(pl.col("target_id").cast(pl.String).alias("account"), pl.col("customers").list.join(", "))
    )
    survey = Survey(accounts, key="account")
    survey.rows("several", pl.col("number") > 1, show=("customers", "number"))
    return {"accounts_have_one_customer": survey.answers().rows["several"].outcome()}


# --- all of them ------------------------------------------------------------------------------------------------------


def irrelevant_decisions(decisions: Decisions) -> Collection[str]:
    """Which bit is which day is of no interest while no day is kept."""
    return ("dow_bit_order",) if decisions.chosen["dow_bitmap"] == "accept_gap" else ()


def build_check_groups(system: System) -> tuple[CheckGroup, ...]:
    """The checks of every asset of the system, one group an asset."""
    is_coi = code(pl.col("item_type")) == "coi"
    return one_group_an_asset(
        [
            *standard_check_groups(system, irrelevant_decisions),
            CheckGroup(EXEMPTION, EXEMPTION_SPECS, evaluate_exemption, (EXEMPTION,)),
            CheckGroup(NOTIFICATION, NOTIFICATION_SPECS, evaluate_notification, (NOTIFICATION,)),
            CheckGroup(LOOKUP, LOOKUP_SPECS, evaluate_lookup, (LOOKUP, NOTIFICATION)),
            CheckGroup(AUDIT, AUDIT_SPECS, evaluate_audit, (AUDIT,)),
            CheckGroup(WEBHOOK, WEBHOOK_SPECS, evaluate_webhook, (WEBHOOK,)),
            CheckGroup(LETTER, LETTER_SPECS, evaluate_letter, (LETTER,)),
            CheckGroup(ACCOUNT, ACCOUNT_SPECS, evaluate_account, (ACCOUNT,)),
            users_are_found("NotificationSchedule", "notification", "user_id"),
            users_are_found("ManualOverride", "exemption", "create_user_id", is_coi),
            exempted_group_checks("ManualOverride"),
            exempted_group_checks("DocRequirement"),
            CheckGroup(
                DOC_REQUIREMENT,
                DOC_REQUIREMENT_SPECS,
                evaluate_doc_requirement,
                (DOC_REQUIREMENT, EXEMPTION, ("mapping", "doc_requirement")),
            ),
            CheckGroup(REJECTED_LETTERS, REJECTED_LETTERS_SPECS, evaluate_rejected_letters, (REJECTED_LETTERS,)),
            *FILE_CHECKS,
        ]
    )


COVERS: dict[str, tuple[str, ...]] = {
    "A8-1": ("legacy/notification:timing_semantics_are_confirmed_by_people_and_data",),
    "A8-2": ("legacy/notification:data_supports_the_chosen_dow_bit_order",),
    "A8-3": ("legacy/letter:macros_are_listed", "legacy/letter:macros_are_confirmed_as_supported"),
    "A8-4": (
        "legacy/notification:send_hold_values_are_known",
        "legacy/notification:dow_bitmap_values_are_bitmaps",
        "legacy/notification:types_are_known",
    ),
    "A8-5": ("legacy/notification_webhook:selectors_are_mapped",),
    "A8-K1": (
        "legacy/notification_webhook:php_values_can_be_read",
        "legacy/notification_webhook:addresses_are_valid",
        "legacy/envelope:vendor_data_can_be_read",
    ),
    "A8-K2": ("legacy/notification:timing_semantics_are_confirmed_by_people_and_data",),
    "A8-K3": ("legacy/notification:data_supports_the_chosen_dow_bit_order",),
    "A8-K4": ("legacy/notification_audit:restart_columns_are_there",),
    "A8-K5": (
        "legacy/letter:natural_key_is_unique",
        "rejected/EmailTemplate:letters_share_no_account_name_and_language",
    ),
    "A8-K7": (
        "legacy/notification:send_hold_values_are_known",
        "legacy/notification:dow_bitmap_values_are_bitmaps",
        "legacy/notification:types_are_known",
        "legacy/notification_webhook:selectors_are_mapped",
    ),
    "A8-K8": ("legacy/letter:letters_are_in_one_language",),
    "A8-K6": ("legacy/messagequeue:bodies_hold_no_macro",),
    "A8-K9": ("legacy/envelope:vendor_data_is_serialised_once",),
    "A11-1": ("legacy/form_field:form_fields_are_those_of_the_sample",),
    "A11-3": ("mapping/reviewer_cross_reference:area_2_has_every_reviewer",),
    "A11-4": ("legacy/repo_file:files_are_linked_or_deleted",),
    "A11-K1": ("legacy/reviewer_address:php_values_can_be_read", "legacy/reviewer_address:addresses_are_valid"),
    "A11-K6": ("legacy/form_field:form_fields_are_those_of_the_sample",),
    "A11-K7": ("legacy/repo_file:files_are_linked_or_deleted",),
    "A11-K9": ("legacy/imap_upload:uploads_are_distinct",),
    "A11-2": ("legacy/exemption:coverage_names_are_mapped", "prepared/DocRequirement:document_names_are_known"),
    "A11-5": ("legacy/exemption:far_future_expiry_dates_are_listed_sentinels",),
    "A11-K2": ("legacy/exemption:far_future_expiry_dates_are_listed_sentinels", "legacy/vornado_feed:leases_end"),
    "A11-K3": tuple(
        f"legacy/{name}:{'natural_key_is_unique' if table.key else 'rows_are_distinct'}"
        for name, table in SYSTEM.legacy_tables.items()
        if name == "keyword" or not table.key
    ),
    "A11-K4": tuple(f"legacy/{name}:column_names_are_plain" for name in WITH_SPECIAL_NAMES),
    "A11-K5": ("legacy/exemption:coverage_names_are_mapped", "prepared/DocRequirement:document_names_are_known"),
    "A11-K8": ("legacy/exemption:reasons_have_no_trailing_white_space",),
}
"""Known issues and pre-migration actions of the plans → the checks (`layer/name:check`) that look at them."""
