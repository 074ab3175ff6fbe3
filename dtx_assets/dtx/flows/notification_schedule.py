"""notification + notification_webhook (+ notification_lookup) → NotificationSchedule (Area 8 decisions 1, 2 and 7).

One wide notification row becomes up to sixteen schedules; the webhook rows give them their recipients. Here is how
settings are read, and what the lookup row of a customer overrides; the mapping file says the rest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from dtx_assets.dtx.addresses import address_problems, counts_latin1, invalid_addresses, with_addresses
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems, listed_value
from dtx_assets.machinery.mapping.provenance import OF, Cell, MadeOf, cell, cells, made_of, told_of
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value, json_strings

KEY = [":account_id", ":type", ":sequence"]
LONGEST_WAIT = 3650
"""Days; a longer wait than ten years is no setting."""

Timing = Literal["before", "after"]


@dataclass(frozen=True)
class Stage:
    """One stage of a schedule: the setting that says when, and how that setting is read.

    `timing` is fixed, or the name of the column that says it. In a `chain` the wait adds up under `incremental`.
    """

    suffix: str
    sequence: str
    setting: str | None
    timing: str = "after"
    chain: bool = False

    @property
    def has_timing_column(self) -> bool:
        return self.timing not in ("before", "after")


def _chain(suffix: str, *settings: str) -> tuple[Stage, ...]:
    sequences = ("reminder", "final", "alert", "restart_notices")
    return (
        Stage(suffix, "initial", None),
        *(Stage(suffix, sequence, setting, chain=True) for sequence, setting in zip(sequences, settings, strict=False)),
    )


_EXPIRATION = (
    Stage("expiration", "soon_to_expire", "CESTESetting", "before"),
    Stage("expiration", "reminder", "CEFERSetting", "CEFERTiming"),
    Stage("expiration", "expired", "CEEXPSetting", "CEEXPTiming"),
    Stage("expiration", "final", "CESERSetting", "CESERTiming"),
    Stage("expiration", "alert", "CEEXPAlertSetting", "CEEXPAlertTiming"),
    Stage("expiration", "restart_notices", "CERestartSetting"),
)
_NON_COMPLIANCE = _chain("non_compliance", "CNCFSetting", "CNCSSetting", "CNCAlertSetting", "CNCRestartSetting")

STAGES: dict[str, tuple[Stage, ...]] = {
    "coi_": (
        *_chain("request", "CRFRRSetting", "CRSRRSetting", "CRNRAlertSetting", "CRRestartSetting"),
        *_EXPIRATION,
        *_NON_COMPLIANCE,
    ),
    "document_": (
        *_chain("request", "DRFRRSetting", "DRSRRSetting", "DRNRAlertSetting"),
        *_EXPIRATION,
        *_NON_COMPLIANCE,
    ),
}
"""The table of spec 4.1, by the prefix that the row's type gives."""

LOOKUP_PREFIX = {"coi_": "coi", "document_": "doc"}
NAMED = tuple(LOOKUP_PREFIX.items())
READ = tuple(
    dict.fromkeys(
        name
        for stages in STAGES.values()
        for stage in stages
        for name in (stage.setting, stage.timing if stage.has_timing_column else None)
        if name
    )
)
"""The columns that stages read."""
KEPT = ("_source_key", "_row", "_bucket", f"^{OF}.*$", "^:.*$")
"""The columns of a row that each of its stages keeps."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


# --- notification rows ------------------------------------------------------------------------------------------------


def counted_lookups(lookup: pl.LazyFrame) -> pl.LazyFrame:
    """The lookup row of each customer that counts: the last one."""
    return lookup.sort("_row").group_by(canonical_integer(pl.col("customer_id")).alias("_customer")).last()


@FUNCTIONS.telling("effective_send_hold", "effective_dow_bitmap", "send_days", "metadata")
def settings_of_customers(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `_prefix` of the type, `effective_send_hold`, `_is_named` and, where days are kept, what bitmaps say.

    A setting that is none is a problem.
    """
    types = inputs.context.value_maps["notification_type"]
    rows = rows.with_columns(listed_value(pl.col("type"), types, "prefix").alias("_prefix"))
    rows = with_naming(with_effective_settings(rows, inputs), inputs)
    problems = [problem for prefix in STAGES for problem in setting_problems(prefix)]
    if inputs.decision("dow_bitmap") == "accept_gap":
        return add_problems(rows, *problems)
    bitmap = integer_value(pl.col("effective_dow_bitmap"))
    is_wrong = pl.col("effective_dow_bitmap").is_not_null() & ~bitmap.is_between(0, 127).fill_null(False)
    told = pl.format("{} is not a bitmap from 0 to 127", pl.col("effective_dow_bitmap").str.head(40))
    return with_days(
        add_problems(rows, *problems, RowProblem(is_wrong, "unparseable", "dow_bitmap", told)), bitmap, inputs
    )


def with_effective_settings(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `effective_send_hold` and `effective_dow_bitmap`: the customer's lookup row goes before the row's own.

    Under `send_hold_override: notification_only` the row's own values count.
    """
    own = {"send_hold": pl.col("send_hold"), "dow_bitmap": pl.col("dow_bitmap")}
    if inputs.decision("send_hold_override") == "notification_only":
        return frame.with_columns(
            *(value.alias(f"effective_{name}") for name, value in own.items()),
            *inputs.told(**{f"effective_{name}": made_of(cells(name)) for name in own}),
        )
    wanted = [f"{short}_{name}" for short in LOOKUP_PREFIX.values() for name in own]
    lookups = counted_lookups(inputs.legacy["notification_lookup"].lazy()).select(
        "_customer", pl.col("_row").alias("_lookup_row"), *(pl.col(name).alias(f"_lookup_{name}") for name in wanted)
    )
    of_type = {prefix: pl.col("_prefix") == prefix for prefix in LOOKUP_PREFIX}
    joined = (
        frame.lazy()
        .with_columns(canonical_integer(pl.col("customer_id")).alias("_customer"))
        .join(lookups, on="_customer", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce(
                *(pl.when(of_type[prefix]).then(pl.col(f"_lookup_{short}_{name}")) for prefix, short in NAMED),
                value,
            ).alias(f"effective_{name}")
            for name, value in own.items()
        )
        .with_columns(inputs.told(**{f"effective_{name}": made_of(_cells_of_setting(name)) for name in own}))
        .select(pl.exclude("_customer", "^_lookup_.*$"))
    )
    return joined.collect()


def _cells_of_setting(name: str) -> pl.Expr:
    """The customer, what the lookup row says for rows of the type, and the row's own value where that says nothing."""
    table, row = "notification_lookup", pl.col("_lookup_row")
    of_lookup = {short: cell(f"{short}_{name}", table, row) for short in LOOKUP_PREFIX.values()}
    said = pl.coalesce(*(pl.when(pl.col("_prefix") == prefix).then(of_lookup[short]) for prefix, short in NAMED))
    is_given = pl.any_horizontal(
        (pl.col("_prefix") == prefix) & pl.col(f"_lookup_{short}_{name}").is_not_null() for prefix, short in NAMED
    )
    own = pl.when(~is_given.fill_null(False)).then(cell(name))
    return cells("customer_id", cell("customer_id", table, row), said, own)


def with_naming(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `_is_named`: whether a lookup row of the account's customers names the row."""
    accounts = inputs.mappings["account"].select(
        pl.col("source_id").alias("_customer"), pl.col("target_id").alias("_account")
    )
    lookups = counted_lookups(inputs.legacy["notification_lookup"].lazy()).join(accounts, on="_customer")
    named = pl.concat(
        [
            lookups.select(
                "_account",
                pl.lit(prefix).alias("_prefix"),
                integer_value(pl.col(f"{short}_notification_id")).alias("_id"),
                pl.lit(True).alias("_is_named"),
            )
            for prefix, short in NAMED
        ]
    ).unique()
    return (
        rows.lazy()
        .with_columns(
            canonical_integer(pl.col("customer_id")).alias("_customer"),
            integer_value(pl.col("notification_id")).alias("_id"),
        )
        .join(accounts, on="_customer", how="left", maintain_order="left")
        .join(named, on=["_account", "_prefix", "_id"], how="left", maintain_order="left")
        .with_columns(pl.col("_is_named").fill_null(False))
        .drop("_customer", "_account", "_id")
        .collect()
    )


def setting_problems(prefix: str) -> list[RowProblem]:
    """A problem for each column that the stages of a prefix read and that is not what it must be."""
    mine = pl.col("_prefix") == prefix
    problems = []
    for stage in STAGES[prefix]:
        if stage.setting is None:
            continue
        days = integer_value(pl.col(stage.setting))
        problems.append(
            RowProblem(
                mine & pl.col(stage.setting).is_not_null() & ~days.is_between(0, LONGEST_WAIT).fill_null(False),
                "unparseable",
                stage.setting,
                pl.format("{} is not a whole number of days from 0 to 3650", pl.col(stage.setting).str.head(40)),
            )
        )
        if stage.has_timing_column:
            timing = code(pl.col(stage.timing))
            problems.append(
                RowProblem(
                    mine & pl.col(stage.setting).is_not_null() & ~timing.is_in(["before", "after"]).fill_null(False),
                    "unparseable",
                    stage.timing,
                    pl.format("{} is neither Before nor After", pl.col(stage.timing).str.head(40).fill_null("NULL")),
                )
            )
    return problems


def send_days(bitmap: pl.Expr, bit_order: str) -> pl.Expr:
    """The days of a bitmap as a JSON array in Monday-to-Sunday order; NULL stays NULL, 0 is no day."""
    bits = {"sunday_first": (2, 4, 8, 16, 32, 64, 1), "monday_first": (1, 2, 4, 8, 16, 32, 64)}[bit_order]
    names = pl.concat_list(
        pl.when((bitmap & bit) != 0).then(pl.lit(f'"{day}"')) for day, bit in zip(DAYS, bits, strict=True)
    ).list.drop_nulls()
    return pl.when(bitmap.is_not_null()).then(pl.format("[{}]", names.list.join(",")))


def with_days(rows: pl.DataFrame, bitmap: pl.Expr, inputs: FlowInputs) -> pl.DataFrame:
    """Adds what is kept of a bitmap: `:send_days`, or both in `:metadata`."""
    days = send_days(bitmap, inputs.decision("dow_bit_order"))
    told = pl.col(f"{OF}effective_dow_bitmap")
    if inputs.decision("dow_bitmap") == "send_days":
        return rows.with_columns(days.alias(":send_days"), *inputs.told(send_days=told))
    both = pl.concat_str(pl.lit('{"dow_bitmap":'), bitmap, pl.lit(',"send_days":'), days, pl.lit("}"))
    return rows.with_columns(pl.when(bitmap.is_not_null()).then(both).alias(":metadata"), *inputs.told(metadata=told))


def stages_with_waits(prefix: str, decisions: Mapping[str, str]) -> Iterator[tuple[Stage, tuple[str, ...]]]:
    """The stages of a prefix, each with the settings whose waits add up to its own; the first of a chain has none."""
    incremental = decisions["timing_semantics"] == "incremental"
    chain: dict[str, list[str]] = {}
    for stage in STAGES[prefix]:
        before = chain.setdefault(stage.suffix, [])
        before += [stage.setting] if stage.setting else []
        yield stage, tuple(before if stage.chain and incremental else before[-1:])


def cells_of_stage(stage: Stage, waits: tuple[str, ...]) -> dict[str, MadeOf]:
    """The cells that make the columns of a stage."""
    timing = (Cell(stage.timing),) if stage.has_timing_column else ()
    return {
        "sequence": MadeOf(tuple(map(Cell, waits[-1:]))),
        "days_after": MadeOf(tuple(map(Cell, waits)), "sum" if len(waits) > 1 else "value"),
        "timing_type": MadeOf(timing),
    }


def cells_of_stages(decisions: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, MadeOf]]]:
    """The parts of a row, as `part` of the mapping file calls them, with their cells."""
    for prefix in STAGES:
        for stage, waits in stages_with_waits(prefix, decisions):
            yield f"{prefix}{stage.suffix}/{stage.sequence}", cells_of_stage(stage, waits)


@FUNCTIONS.telling("sequence", "days_after", "timing_type", parts=cells_of_stages)
def stages_of_settings(notifications: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row for each stage that has a wait, with `:type`, `:sequence`, `:days_after` and `:timing_type`."""
    stages = []
    for prefix in STAGES:
        own = notifications.lazy().filter(pl.col("_prefix") == prefix).select(*KEPT, *READ)
        for stage, waits in stages_with_waits(prefix, inputs.context.decisions):
            days, present = pl.lit(0, dtype=pl.Int64), pl.lit(True)
            if stage.setting is not None:
                present = integer_value(pl.col(stage.setting)).is_not_null()
                days = pl.sum_horizontal(integer_value(pl.col(name)) for name in waits)
            timing = code(pl.col(stage.timing)) if stage.has_timing_column else pl.lit(stage.timing)
            told = {name: told_of(made) for name, made in cells_of_stage(stage, waits).items()}
            stages.append(
                own.select(
                    *KEPT,
                    pl.lit(prefix + stage.suffix).alias(":type"),
                    pl.lit(stage.sequence).alias(":sequence"),
                    days.alias(":days_after"),
                    timing.alias(":timing_type"),
                    present.alias("_present"),
                    *inputs.told(**told),
                ).filter("_present")
            )
    return pl.concat(stages).drop("_present").collect()


# --- webhook rows -----------------------------------------------------------------------------------------------------


@FUNCTIONS.register
def addresses_of_webhooks(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `:type` and `:sequence` of the schedule, and the addresses that a webhook holds, PHP-serialised.

    One that holds none is a problem.
    """
    maps = inputs.context.value_maps
    prefix = listed_value(pl.col("type"), maps["notification_type"], "prefix")
    suffix, sequence = (
        listed_value(pl.col("selector"), maps["webhook_selector"], output) for output in ("type_suffix", "sequence")
    )
    rows = with_addresses(rows, "webhook", latin1_lengths=counts_latin1(inputs.context.decisions))
    named = rows.with_columns((prefix + suffix).alias(":type"), sequence.alias(":sequence"))
    return add_problems(named, *address_problems("webhook"))


@FUNCTIONS.register
def recipients_and_others(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows with their valid `:addresses`; what is no address is a row of its own, with a problem."""
    valid = rows.rename({"_addresses": ":addresses"}).drop("_invalid")
    # They are no part of the schedule.
    others = invalid_addresses(rows, "webhook").drop("_addresses", "_invalid", *KEY)
    return pl.concat([valid, others], how="diagonal_relaxed")


@FUNCTIONS.telling("email_recipients")
def schedules_with_recipients(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The schedules in order of their key, each with the addresses of all its webhooks, each once, sorted.

    Under `activation: hold_until_activated` none is active, and `_is_active` says what it is to be.
    """
    schedules = parts.filter(pl.col("_source") == "notification").drop(":addresses", strict=False)
    webhooks = parts.filter(pl.col("_source") == "notification_webhook")
    recipients = (
        webhooks.select(*KEY, pl.col(":addresses").cast(pl.List(pl.String)))
        .explode(":addresses", empty_as_null=False, keep_nulls=False)
        .unique()
        .sort(":addresses")
        .group_by(KEY)
        .agg(":addresses")
        .select(*KEY, json_strings(pl.col(":addresses")).alias(":email_recipients"))
    )
    schedules = (
        schedules.sort(KEY)
        .join(recipients, on=KEY, how="left", maintain_order="left")
        .with_columns(pl.col(":email_recipients").fill_null("[]"))
    )
    if inputs.is_traced:
        webhook = cell("webhook", "notification_webhook", pl.col("_row"))
        told = webhooks.sort("_row").group_by(KEY).agg(webhook.alias("_cells"))
        schedules = schedules.join(told, on=KEY, how="left", maintain_order="left")
        schedules = schedules.with_columns(inputs.told(email_recipients=made_of(pl.col("_cells").fill_null(cells()))))
    if inputs.decision("activation") == "hold_until_activated":
        held = (pl.col(":is_active").alias("_is_active"), pl.lit(False).alias(":is_active"))
        return schedules.with_columns(held)
    return schedules
