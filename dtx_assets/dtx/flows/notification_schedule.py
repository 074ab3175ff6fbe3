"""notification + notification_webhook (+ notification_lookup) → NotificationSchedule (Area 8 decisions 1, 2 and 7).

One wide notification row becomes up to sixteen schedules; the webhook rows give them their recipients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from dtx_assets.dtx.addresses import address_problems, list_invalid_addresses, with_addresses
from dtx_assets.dtx.php import counts_latin1
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.assess import assess, finish_source, is_sound, link_rows, with_target_problems
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value, json_strings

MODEL = "NotificationSchedule"
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
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


# --- shaping ----------------------------------------------------------------------------------------------------------


def counted_lookups(lookup: pl.LazyFrame) -> pl.LazyFrame:
    """The lookup row of each customer that counts: the last one."""
    return lookup.sort("_row").group_by(canonical_integer(pl.col("customer_id")).alias("_customer")).last()


def effective_settings(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `effective_send_hold` and `effective_dow_bitmap`: the customer's lookup row goes before the row's own.

    Under `send_hold_override: notification_only` the row's own values count.
    """
    own = {"send_hold": pl.col("send_hold"), "dow_bitmap": pl.col("dow_bitmap")}
    frame = frame.with_columns(code(pl.col("type")).alias("_type"))
    if inputs.decision("send_hold_override") == "notification_only":
        return frame.with_columns(value.alias(f"effective_{name}") for name, value in own.items())
    wanted = ["coi_send_hold", "doc_send_hold", "coi_dow_bitmap", "doc_dow_bitmap"]
    lookups = counted_lookups(inputs.legacy["notification_lookup"].lazy()).select(
        "_customer", *(pl.col(name).alias(f"_lookup_{name}") for name in wanted)
    )
    joined = (
        frame.lazy()
        .with_columns(canonical_integer(pl.col("customer_id")).alias("_customer"))
        .join(lookups, on="_customer", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce(
                pl.when(pl.col("_type") == "coi").then(pl.col(f"_lookup_coi_{name}")),
                pl.when(pl.col("_type") == "document").then(pl.col(f"_lookup_doc_{name}")),
                value,
            ).alias(f"effective_{name}")
            for name, value in own.items()
        )
        .select(pl.exclude("_customer", "^_lookup_.*$"))
    )
    return joined.collect()


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


def bitmap_columns(decisions: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns of day-of-week bitmaps, by source table, that are read under the chosen options."""
    if decisions["dow_bitmap"] == "accept_gap":
        return {}
    if decisions["send_hold_override"] == "notification_only":
        return {"notification": ("dow_bitmap",)}
    return {"notification": ("dow_bitmap",), "notification_lookup": ("coi_dow_bitmap", "doc_dow_bitmap")}


def send_days(bitmap: pl.Expr, bit_order: str) -> pl.Expr:
    """The days of a bitmap as a JSON array in Monday-to-Sunday order; NULL stays NULL, 0 is no day."""
    bits = {"sunday_first": (2, 4, 8, 16, 32, 64, 1), "monday_first": (1, 2, 4, 8, 16, 32, 64)}[bit_order]
    names = pl.concat_list(
        pl.when((bitmap & bit) != 0).then(pl.lit(f'"{day}"')) for day, bit in zip(DAYS, bits, strict=True)
    ).list.drop_nulls()
    return pl.when(bitmap.is_not_null()).then(pl.format("[{}]", names.list.join(",")))


def notification_stages(notifications: pl.DataFrame, incremental: bool) -> pl.DataFrame:
    """One row for each stage that has a wait, with `:type`, `:sequence`, `:days_after` and `:timing_type`."""
    stages = []
    for prefix, table in STAGES.items():
        own = notifications.filter(pl.col("_prefix") == prefix)
        if own.is_empty():
            continue
        chain: dict[str, list[pl.Expr]] = {}
        for stage in table:
            if stage.setting is None:
                days, present = pl.lit(0, dtype=pl.Int64), pl.lit(True)
            else:
                setting = integer_value(pl.col(stage.setting))
                present = setting.is_not_null()
                before = chain.setdefault(stage.suffix, [])
                before.append(setting)
                days = pl.sum_horizontal(before) if stage.chain and incremental else setting
            timing = code(pl.col(stage.timing)) if stage.has_timing_column else pl.lit(stage.timing)
            stages.append(
                own.select(
                    "_source_key",
                    "_row",
                    "_bucket",
                    "^:.*$",
                    pl.lit(prefix + stage.suffix).alias(":type"),
                    pl.lit(stage.sequence).alias(":sequence"),
                    days.alias(":days_after"),
                    timing.alias(":timing_type"),
                    present.alias("_present"),
                ).filter("_present")
            )
    return pl.concat(stages).drop("_present") if stages else _no_stages(notifications)


def _no_stages(notifications: pl.DataFrame) -> pl.DataFrame:
    kept = notifications.select("_source_key", "_row", "_bucket", "^:.*$").clear()
    return kept.with_columns(
        pl.lit(None, pl.String).alias(":type"),
        pl.lit(None, pl.String).alias(":sequence"),
        pl.lit(None, pl.Int64).alias(":days_after"),
        pl.lit(None, pl.String).alias(":timing_type"),
    )


# --- duplicates -------------------------------------------------------------------------------------------------------


def with_one_a_type(notifications: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """A problem for every sound row whose account and type another sound row has that counts more.

    The one that a lookup row of the account's customers names counts, else the highest `notification_id`.
    """
    accounts = inputs.mappings["account"].select(
        pl.col("source_id").alias("_customer"), pl.col("target_id").alias(":account_id")
    )
    lookups = counted_lookups(inputs.legacy["notification_lookup"].lazy()).join(accounts, on="_customer")
    named = pl.concat(
        [
            lookups.select(
                ":account_id",
                pl.lit(prefix).alias("_prefix"),
                integer_value(pl.col(f"{short}_notification_id")).alias("_id"),
                pl.lit(True).alias("_named"),
            )
            for prefix, short in LOOKUP_PREFIX.items()
        ]
    ).unique()
    ranked = (
        notifications.lazy()
        .filter(is_sound())
        .with_columns(integer_value(pl.col("notification_id")).alias("_id"))
        .join(named, on=[":account_id", "_prefix", "_id"], how="left")
        .sort(":account_id", "_prefix", pl.col("_named").fill_null(False), "_id")
        .select("_row", pl.col("_row").last().over(":account_id", "_prefix").alias("_winner"))
        .filter(pl.col("_row") != pl.col("_winner"))
        .select("_row", pl.lit(True).alias("_beaten"))
        .collect()
    )
    joined = notifications.join(ranked, on="_row", how="left", maintain_order="left")
    return add_problems(
        joined,
        RowProblem(
            pl.col("_beaten").fill_null(False),
            "duplicate_key",
            "notification_id",
            "another row of this account and type counts: the one notification_lookup names, else the highest id",
        ),
    ).drop("_beaten")


# --- webhooks ---------------------------------------------------------------------------------------------------------


def read_webhooks(inputs: FlowInputs) -> pl.DataFrame:
    """The webhook rows with `:account_id`, `_type`, `_sequence` and what `with_addresses` finds in them."""
    rows = with_addresses(
        inputs.legacy["notification_webhook"], "webhook", latin1_lengths=counts_latin1(inputs.context.decisions)
    )
    webhooks = assess(inputs, "notification_webhook", MODEL, rows, dropped={"empty": pl.col("status") == "empty"})
    return webhooks.with_columns(
        (pl.col(":prefix") + pl.col(":type_suffix")).alias("_type"), pl.col(":sequence").alias("_sequence")
    )


def finish_webhooks(
    outcome: Outcome, inputs: FlowInputs, webhooks: pl.DataFrame, schedules: pl.DataFrame
) -> pl.DataFrame:
    """Books the webhook rows; gives the migrated ones with the schedule row (`_schedule`) each goes to."""
    existing = schedules.select("account_id", "type", "sequence", pl.col("_row").alias("_schedule"))
    webhooks = webhooks.join(
        existing,
        left_on=[":account_id", "_type", "_sequence"],
        right_on=["account_id", "type", "sequence"],
        how="left",
        maintain_order="left",
    )
    webhooks = add_problems(
        webhooks,
        *address_problems("webhook"),
        RowProblem(
            pl.col(":account_id").is_not_null()
            & pl.col("_type").is_not_null()
            & pl.col("_sequence").is_not_null()
            & pl.col("_schedule").is_null(),
            "no_matching_row",
            "selector",
            pl.format("the account has no schedule {}/{}", "_type", "_sequence"),
        ),
    )
    migrated = finish_source(outcome, inputs, "notification_webhook", MODEL, webhooks)
    list_invalid_addresses(outcome, inputs, "notification_webhook", MODEL, migrated, "webhook")
    return migrated


# --- the flow ---------------------------------------------------------------------------------------------------------


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    notifications = read_notifications(inputs)
    stages = notification_stages(
        notifications.filter(is_sound()), incremental=inputs.decision("timing_semantics") == "incremental"
    )
    schedules = stages.select(
        "_source_key", pl.col("_row").alias("_source_row"), "_bucket", pl.col("^:.*$").name.map(lambda n: n[1:])
    )
    notifications = with_target_problems(
        inputs, MODEL, notifications, schedules.with_columns(pl.lit("[]").alias("email_recipients"))
    )
    migrated = finish_source(outcome, inputs, "notification", MODEL, notifications)
    schedules = schedules.join(migrated.select("_source_key"), on="_source_key", how="semi").sort(
        "account_id", "type", "sequence"
    )
    schedules = schedules.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))

    webhooks = finish_webhooks(outcome, inputs, read_webhooks(inputs), schedules)
    recipients = (
        webhooks.select("_schedule", "_addresses")
        .explode("_addresses", empty_as_null=False, keep_nulls=False)
        .unique()
        .sort("_addresses")
        .group_by("_schedule")
        .agg("_addresses")
        .select("_schedule", json_strings(pl.col("_addresses")).alias("email_recipients"))
    )
    schedules = schedules.join(
        recipients, left_on="_row", right_on="_schedule", how="left", maintain_order="left"
    ).with_columns(pl.col("email_recipients").fill_null("[]"))
    if inputs.decision("activation") == "hold_until_activated":
        schedules = schedules.with_columns(pl.col("is_active").alias("_is_active"), pl.lit(False).alias("is_active"))
    held = [name for name in ("_is_active",) if name in schedules.columns]
    columns = inputs.system.target(MODEL).columns_under(inputs.context.decisions)
    outcome.prepared[MODEL] = Prepared(
        schedules.select("_row", *(pl.col(column.name).cast(polars_type(column.type)) for column in columns), *held),
        pl.concat(
            [
                link_rows(
                    "notification",
                    schedules.select(
                        "_source_key",
                        "_source_row",
                        "_bucket",
                        "_row",
                        pl.format("{}/{}", "type", "sequence").alias("_part"),
                    ),
                ),
                link_rows(
                    "notification_webhook",
                    webhooks.select(
                        "_source_key",
                        pl.col("_row").alias("_source_row"),
                        "_bucket",
                        pl.col("_schedule").alias("_row"),
                        pl.format("{}/{}", "_type", "_sequence").alias("_part"),
                    ),
                ),
            ]
        ),
    )
    return outcome


def read_notifications(inputs: FlowInputs) -> pl.DataFrame:
    """The notification rows, mapped, with all their problems; one sound row an account and type."""
    notifications = assess(inputs, "notification", MODEL, effective_settings(inputs.legacy["notification"], inputs))
    notifications = notifications.with_columns(pl.col(":prefix").alias("_prefix")).drop(":prefix")
    problems = [expression for prefix in STAGES for expression in setting_problems(prefix)]
    option = inputs.decision("dow_bitmap")
    if option != "accept_gap":
        bitmap = integer_value(pl.col("effective_dow_bitmap"))
        problems.append(
            RowProblem(
                pl.col("effective_dow_bitmap").is_not_null() & ~bitmap.is_between(0, 127).fill_null(False),
                "unparseable",
                "dow_bitmap",
                pl.format("{} is not a bitmap from 0 to 127", pl.col("effective_dow_bitmap").str.head(40)),
            )
        )
        days = send_days(bitmap, inputs.decision("dow_bit_order"))
        notifications = notifications.with_columns(bitmap.alias("_bitmap"), days.alias("_days"))
        if option == "send_days":
            notifications = notifications.with_columns(pl.col("_days").alias(":send_days"))
        else:
            notifications = notifications.with_columns(
                pl.when(pl.col("_bitmap").is_not_null())
                .then(pl.concat_str(pl.lit('{"dow_bitmap":'), "_bitmap", pl.lit(',"send_days":'), "_days", pl.lit("}")))
                .alias(":metadata")
            )
    return with_one_a_type(add_problems(notifications, *problems), inputs)


NOTIFICATION_SCHEDULE = Flow(
    name="notification_schedule",
    area="notifications",
    sources=("notification", "notification_webhook", "notification_lookup"),
    accounted=(("notification", MODEL), ("notification_webhook", MODEL)),
    mappings=("account", "user", "notification_type", "send_hold", "webhook_selector"),
    targets=(MODEL,),
    decisions=("timing_semantics", "send_hold_override", "dow_bitmap", "dow_bit_order", "activation"),
    owner={
        "notification": ("customer_id", "account"),
        "notification_webhook": ("customer_id", "account"),
        "notification_lookup": ("customer_id", "account"),
    },
    run=run,
    required=bitmap_columns,
    description="A customer's wide row becomes a schedule for each stage; webhooks give the recipients.",
)
