"""The asset checks of notifications, their lookup and audit tables, and the webhooks they are sent to.

The other checks of DTX, and which of them covers which issue of the plans, are in `checks`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from dtx_assets.dtx.addresses import ADDRESS, counts_latin1
from dtx_assets.dtx.flows.notification_schedule import LONGEST_WAIT, LOOKUP_PREFIX, STAGES, Stage, counted_lookups
from dtx_assets.machinery.checks.crosswalks import unmatched_ids
from dtx_assets.machinery.checks.own import Asking, Checks, Count, Find, Found, Look, Values
from dtx_assets.machinery.checks.spec import CheckOutcome, Severity, found
from dtx_assets.machinery.checks.survey import RepeatedKeys, repeated_keys, shown_values
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value
from dtx_assets.machinery.transforms.php import fits_latin1_only, php_strings

NOTIFICATION_CHECKS = Checks()


def repeated_outcome(repeated: RepeatedKeys) -> CheckOutcome:
    return found(repeated.identical + repeated.differing, keys=repeated.keys, examples=repeated.examples)


def users_are_found(checks: Checks, model: str, table: str, column: str, where: pl.Expr | None = None) -> None:
    """Checks whether the users of a model's source rows are in the crosswalk; one who is not becomes NULL."""

    @checks.on(
        f"prepared/{model}",
        needs=(f"legacy/{table}", "mapping/user"),
        name="users_are_found",
        description=f"Every {table}.{column} is a user of DTX 2.0; one who is not found becomes NULL.",
    )
    def evaluate(look: Look) -> CheckOutcome:
        frame = look.legacy(table)
        unmatched = unmatched_ids(frame if where is None else frame.filter(where), column, look.mapping("user"))
        return found(unmatched.ids, **unmatched.described())


users_are_found(NOTIFICATION_CHECKS, "NotificationSchedule", "notification", "user_id")

# --- legacy/notification: codes and values ----------------------------------------------------------------------------


def notifications(look: Look) -> pl.LazyFrame:
    """The rows with `_prefix`, what the columns of the row's type begin with, and their settings in days."""
    known = look.value_maps["notification_type"].select("type", "prefix")
    prefix = pl.coalesce(
        pl.when(code(pl.col("type")) == name.strip().lower()).then(pl.lit(prefix)) for name, prefix in known.iter_rows()
    )
    days = {
        name: integer_value(pl.col(name))
        for name in look.system.legacy_tables["notification"].columns
        if name.endswith("Setting")
    }
    # Read once for all questions; nonsense is no evidence.
    return look.legacy("notification").with_columns(
        prefix.alias("_prefix"),
        *(pl.when(day.is_between(0, LONGEST_WAIT)).then(day).alias(f"_days:{name}") for name, day in days.items()),
    )


def days_of(setting: str) -> pl.Expr:
    return pl.col(f"_days:{setting}")


notification = partial(NOTIFICATION_CHECKS.on, "legacy/notification", rows=notifications)
BITMAP = integer_value(pl.col("dow_bitmap"))


@notification()
def dow_bitmap_values_are_bitmaps(look: Look) -> Find:
    """A8 pre-migration action 4, known issue 7: the variety of dow_bitmap; each value is NULL or from 0 to 127."""
    value = pl.col("dow_bitmap")
    return Find(
        value.is_not_null() & ~BITMAP.is_between(0, 127).fill_null(False), show=value, all_values={"values": value}
    )


@notification("ERROR")
def customers_have_one_row_a_type(look: Look) -> CheckOutcome:
    """A8 decision 1: a customer has one row for COI and one for DOCUMENT; of several, one counts."""
    customer, type_ = canonical_integer(pl.col("customer_id")), code(pl.col("type"))
    typed = look.rows.filter(customer.is_not_null() & type_.is_not_null())
    return repeated_outcome(repeated_keys(typed, [customer, type_], ["_source_key"]))


def stages_of_columns(look: Look, column_of: Callable[[Stage], str]) -> dict[str, tuple[Stage, pl.Expr]]:
    """Each column that stages read → such a stage, and whether the type of a row has it."""
    users: dict[str, tuple[Stage, list[str]]] = {}
    for prefix, stages in STAGES.items():
        for stage in stages:
            if stage.setting is not None:
                users.setdefault(column_of(stage), (stage, []))[1].append(prefix)
    there = [column for column in users if column in look.system.legacy_tables["notification"].columns]
    return {column: (users[column][0], pl.col("_prefix").is_in(users[column][1])) for column in there}


def wrong_values(label: str, wrong: Mapping[str, pl.Expr]) -> Find:
    """The rows with a wrong column, and what is in each of them."""
    named = pl.concat_list(
        pl.when(when).then(pl.format(f"{column} = {{}}", pl.col(column).str.head(20).fill_null("NULL")))
        for column, when in wrong.items()
    ).list.drop_nulls()
    return Find(pl.any_horizontal(*wrong.values()), named.list.join("; ").alias(label), values={label: named})


@notification("ERROR")
def settings_are_days(look: Look) -> Find:
    """A8 decision 1: each setting that the row's type uses is NULL or a whole number from 0 to 3650;
    others reject the row."""
    users = stages_of_columns(look, lambda stage: str(stage.setting)).items()
    return wrong_values(
        "settings", {name: used & pl.col(name).is_not_null() & days_of(name).is_null() for name, (_, used) in users}
    )


@notification("ERROR")
def timings_are_before_or_after(look: Look) -> Find:
    """A8 decision 1: where a setting is there, its Timing is Before or After; others reject the row."""
    wrong = {}
    for name, (stage, used) in stages_of_columns(look, lambda stage: stage.timing).items():
        known = code(pl.col(name)).is_in(["before", "after"]).fill_null(False)
        wrong[name] = used & pl.col(str(stage.setting)).is_not_null() & ~known
    return wrong_values("timings", wrong)


# --- legacy/notification: which bit is which day ----------------------------------------------------------------------


@dataclass(frozen=True)
class BitOrderEvidence:
    """How many rows speak for each order of the bits: their days are working days under that one alone."""

    state: str
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
    state = "undecided"
    if sunday > 0 and sunday >= 2 * monday:
        state = "sunday_first"
    elif monday > 0 and monday >= 2 * sunday:
        state = "monday_first"
    return BitOrderEvidence(state, sunday, monday, shown_values(telling.select("value", "rows")))


@notification("ERROR", blocking=True)
def data_supports_the_chosen_dow_bit_order(look: Look) -> Asking:
    """A8 pre-migration action 2, known issue 3: which day is which bit, as the data has it, and whether
    dow_bit_order says the same. An error where decision dow_bitmap keeps the days."""
    evidence = bit_order_evidence((yield Values(BITMAP)))
    chosen, kept = look.chosen["dow_bit_order"], look.chosen["dow_bitmap"] != "accept_gap"
    against = {"sunday_first": evidence.monday_first, "monday_first": evidence.sunday_first}[chosen]
    shown = {
        "the data supports": evidence.state,
        "chosen": chosen,
        "rows that speak for Sunday first (62 is Monday to Friday)": evidence.sunday_first,
        "rows that speak for Monday first (31 is Monday to Friday)": evidence.monday_first,
        "bitmaps": evidence.masks,
        "matters": f"{'yes' if kept else 'no'}: dow_bitmap is {look.chosen['dow_bitmap']}",
    }
    return CheckOutcome(evidence.state in (chosen, "undecided"), against, shown, "ERROR" if kept else "WARN")


# --- legacy/notification: what settings count from --------------------------------------------------------------------


def timing_chains() -> dict[str, tuple[str, list[str]]]:
    """The settings that add up under `incremental`: name of the chain → (prefix, setting columns in order)."""
    chains: dict[str, tuple[str, list[str]]] = {}
    for prefix, stages in STAGES.items():
        for stage in stages:
            if stage.chain and stage.setting:
                chains.setdefault(f"{prefix}{stage.suffix}", (prefix, []))[1].append(stage.setting)
    return chains


def kinds_of(settings: Sequence[str]) -> dict[str, pl.Expr]:
    """Whether a chain has two settings or more; one that is less than one before it; each more than all before it.

    NULL settings are passed over.
    """
    days = [days_of(name) for name in settings]
    several = pl.sum_horizontal(day.is_not_null() for day in days) > 1
    steps = [(days[place], pl.max_horizontal(days[:place])) for place in range(1, len(days))]
    falling = pl.any_horizontal((later < earlier).fill_null(False) for later, earlier in steps)
    rising = pl.all_horizontal((later > earlier).fill_null(True) for later, earlier in steps)
    return {"chains": several, "falling": falling, "rising": rising & several}


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


@notification("ERROR", blocking=True)
def timing_semantics_are_confirmed_by_people_and_data(look: Look) -> Asking:
    """A8 pre-migration action 1, known issue 2: decision timing_semantics is confirmed, and no settings
    contradict it. A wait that is shorter than one before it cannot count from the same day."""
    by_chain = yield {
        chain: {kind: Count((pl.col("_prefix") == own) & when) for kind, when in kinds_of(columns).items()}
        for chain, (own, columns) in timing_chains().items()
    }
    kinds = ("chains", "falling", "rising")
    evidence = TimingEvidence(*(sum(counts[kind] for counts in by_chain.values()) for kind in kinds))
    entry, chosen = look.decisions.entry("timing_semantics"), look.chosen["timing_semantics"]
    is_open = entry.status == "open"
    against = {"cumulative": evidence.falling, "incremental": evidence.rising}[chosen]
    contradicted = evidence.supports not in (chosen, "undecided")
    shown = {
        "decision": f"{chosen}, {'open' if is_open else 'confirmed'}",
        "to be confirmed by": entry.confirm_by,
        "the data supports": evidence.supports,
        "chains of two settings or more": evidence.chains,
        "in which a wait is shorter than one before it (cannot be cumulative)": evidence.falling,
        "in which every wait is longer than those before it (may be cumulative)": evidence.rising,
        "by chain": by_chain,
    }
    # Waits that fall disprove `cumulative`; waits that rise only make `incremental` doubtful.
    severity: Severity = "WARN" if not is_open and chosen == "incremental" else "ERROR"
    return CheckOutcome(not is_open and not contradicted, against if contradicted else int(is_open), shown, severity)


# --- legacy/notification_lookup, legacy/notification_audit ------------------------------------------------------------

OVERRIDDEN = ("send_hold", "dow_bitmap")
CUSTOMER = canonical_integer(pl.col("customer_id")).alias("_customer")


def lookup_types() -> dict[str, str]:
    """Type of a notification row, as codes are compared → the prefix of the lookup table's columns for it."""
    return {prefix.rstrip("_"): short for prefix, short in LOOKUP_PREFIX.items()}


def named_notifications(look: Look) -> pl.LazyFrame:
    """A row for each notification row that a lookup row names, with whose it is and of which type, where it exists."""
    own = look.legacy("notification").select(
        canonical_integer(pl.col("notification_id")).alias("_named"),
        CUSTOMER.alias("_whose"),
        code(pl.col("type")).alias("_type"),
    )
    ids = {name: f"{short}_notification_id" for name, short in lookup_types().items()}
    named = pl.concat(
        look.legacy("notification_lookup").select(
            "_source_key",
            CUSTOMER,
            pl.lit(name).alias("named for"),
            pl.coalesce(canonical_integer(pl.col(column)), column).alias("_named"),
        )
        for name, column in ids.items()
    )
    return named.filter(pl.col("_named").is_not_null()).join(own, on="_named", how="left")


def overridden_notifications(look: Look) -> pl.LazyFrame:
    """The notification rows of customers with a lookup row, and in `override …` what the one that counts says."""
    last = counted_lookups(look.legacy("notification_lookup")).select(
        "_customer",
        *(
            pl.col(f"{short}_{what}").alias(f"{name} {what}")
            for name, short in lookup_types().items()
            for what in OVERRIDDEN
        ),
    )
    beside = look.legacy("notification").select(
        "_source_key", CUSTOMER, code(pl.col("type")).alias("_type"), *OVERRIDDEN
    )
    return beside.join(last, on="_customer").with_columns(
        pl.coalesce(pl.when(pl.col("_type") == name).then(pl.col(f"{name} {what}")) for name in lookup_types()).alias(
            f"override {what}"
        )
        for what in OVERRIDDEN
    )


lookup = partial(NOTIFICATION_CHECKS.on, "legacy/notification_lookup")
named = partial(lookup, rows=named_notifications, needs="legacy/notification")
# A row without a customer is nobody's, and so is one without a type no row of the type that was meant.
EXISTS = pl.col("_whose").is_not_null() | pl.col("_type").is_not_null()
NAMED = ("named for", pl.col("_named").alias("notification_id"))


@named()
def named_notifications_exist(look: Look) -> Find:
    """A8 decision 2: the notification rows that a lookup row names exist."""
    return Find(~EXISTS, show=NAMED)


@named()
def named_notifications_are_the_customers_own(look: Look) -> Find:
    """A8 decision 2: the notification rows that a lookup row names are of its customer and of the type that it
    names them for."""
    whose, of_type = pl.col("_whose"), pl.col("_type")
    foreign = EXISTS & (whose.ne_missing(pl.col("_customer")) | of_type.ne_missing(pl.col("named for")))
    return Find(foreign, show=(*NAMED, whose.alias("of customer"), of_type.alias("of type")))


@lookup()
def customers_have_one_lookup_row(look: Look) -> CheckOutcome:
    """A8 decision 2: each customer has one lookup row; of several the last one counts."""
    return repeated_outcome(repeated_keys(look.rows, [canonical_integer(pl.col("customer_id"))], ["_row"]))


@lookup(rows=overridden_notifications, needs="legacy/notification")
def send_hold_overrides_agree_with_notification(look: Look) -> Find:
    """A8 decisions 2 and 7: coi_send_hold and doc_send_hold say what the customer's notification row says;
    where they do not, decision send_hold_override says which counts."""
    override, own = pl.col("override send_hold"), pl.col("send_hold")
    differs = integer_value(pl.col("override dow_bitmap")) != BITMAP
    return Find(
        code(override) != code(own),
        show=("send_hold", override.alias("override")),
        counts={"notification rows with an override": override.is_not_null(), "dow_bitmap differs": differs},
        facts={"decision": look.chosen["send_hold_override"]},
    )


@lookup("ERROR")
def send_hold_overrides_are_known(look: Look) -> Find:
    """A8 decision 7: each override is NULL, SEND or HOLD; under lookup_wins others reject the notification row."""
    columns = [f"{short}_send_hold" for short in lookup_types().values()]
    unknown = [pl.col(name).is_not_null() & ~look.lists("send_hold", pl.col(name)) for name in columns]
    rejects = look.chosen["send_hold_override"] == "lookup_wins"
    return Find(pl.any_horizontal(unknown), show=columns, severity=None if rejects else "WARN")


@NOTIFICATION_CHECKS.on("legacy/notification_audit")
def restart_columns_are_there(look: Look) -> CheckOutcome:
    """A8 known issue 4: the audit table has the Restart columns of notification. It is archived, not migrated."""
    columns = look.manifest(*look.asset).metadata["columns"]
    missing = [
        name for name in look.system.legacy_tables["notification"].columns if "Restart" in name and name not in columns
    ]
    return found(len(missing), missing=missing)


# --- legacy/notification_webhook --------------------------------------------------------------------------------------

PHP = pl.col("_php").struct


def webhooks(look: Look) -> pl.LazyFrame:
    """The rows with what their PHP value holds (`_php`): the addresses among it, and what is none."""
    is_valid = pl.element().str.strip_chars().str.contains(ADDRESS)
    strings = PHP.field("strings").list
    return with_php(look, "webhook").select(
        "_latin1",
        "_source_key",
        PHP.field("status"),
        PHP.field("detail"),
        strings.eval(pl.element().filter(is_valid)).list.len().alias("_valid"),
        pl.concat_list(strings.eval(pl.element().filter(~is_valid)), PHP.field("others")).alias("_invalid"),
    )


def with_php(look: Look, column: str) -> pl.LazyFrame:
    """The rows of the look's table with what their PHP value holds (`_php`), and whether lengths fit latin1 only."""
    value = pl.col(column)
    php = php_strings(value, latin1_lengths=counts_latin1(look.chosen))
    return look.legacy(look.asset[1]).with_columns(php.alias("_php"), fits_latin1_only(value).alias("_latin1"))


def without_places(detail: pl.Expr) -> pl.Expr:
    """Why a PHP value cannot be read; where in it the reader stopped is of no use over many values."""
    return detail.str.replace_all(r"\d+", "…")


def php_outcome(unreadable: Found, latin1: int) -> CheckOutcome:
    """What checks of PHP values say, also of those whose lengths fit latin1 only."""
    return unreadable.outcome(**({"lengths fit latin1 only (decision php_string_lengths)": latin1} if latin1 else {}))


webhook = partial(NOTIFICATION_CHECKS.on, "legacy/notification_webhook", rows=webhooks)


@webhook("ERROR")
def php_values_can_be_read(look: Look) -> Asking:
    """A8 known issue 1: every webhook is empty or a PHP-serialised array or string without objects."""
    status, detail = pl.col("status"), pl.col("detail")
    counts = {"empty values": status == "empty", "values": pl.lit(True)}
    unreadable = Find(status == "unparseable", show=detail, values={"why": without_places(detail)}, counts=counts)
    return php_outcome(*(yield unreadable, Count(pl.col("_latin1"))))


@webhook()
def addresses_are_valid(look: Look) -> Asking:
    """A8 decision 1, known issue 1: every recipient is an e-mail address. A row without a valid one is rejected, an
    error."""
    is_readable, invalid = pl.col("status") == "ok", pl.col("_invalid").list
    shown = invalid.first().alias("not an address")
    not_valid = Find(is_readable & (invalid.len() > 0), show=shown, masked=("not an address",))
    answer, none = yield not_valid, Count(is_readable & (pl.col("_valid") == 0))
    outcome = answer.outcome(**{"rows without a valid address": none})
    if none:
        outcome.passed, outcome.severity = False, "ERROR"
    return outcome
