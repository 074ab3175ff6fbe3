"""What rows of trading requests say together: what was executed, what is withdrawn, what was approximated."""

import polars as pl

from dtx_assets.machinery.mapping.conditions import drop_rules
from dtx_assets.machinery.mapping.execute import NO_PROBLEMS, RowProblem, add_problems, no_text
from dtx_assets.machinery.mapping.functions import Functions
from dtx_assets.machinery.prepare.batches import EXTRA
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import code, json_object, json_text, localized

FUNCTIONS = Functions()
TABLE = "personal_account_dealing"
KEPT = (
    *("name", "inst_symbol", "holding_period_yn", "status", "status_manager", "status_compliance", "is_deleted_yn"),
    "contract_notes_received_yn",
)
"""The columns without a column of their own."""
APPROXIMATED = ("executed_at", "execution_price", "execution_quantity", "recorded_by_id")


@FUNCTIONS.register
def requests(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `executed` (`yes` or NULL), as the executions have it, and `assessment`, a JSON object."""
    execution = inputs.system.mappings.for_target("pad_execution").sources[TABLE]
    is_left_out = drop_rules(execution.drop, {"execution_when": inputs.decision("execution_when")})["not_executed"]
    entries = {"holding_period": _flag(inputs, "holding_period_yn")}
    if inputs.decision("broker_reporting") != "column":
        entries["broker_reporting"] = _flag(inputs, "broker_reporting_yn")
    problems = []
    if inputs.decision("compliance_assessment") == "with_legacy":
        kept = {name.removeprefix(EXTRA): name for name in frame.columns if name in KEPT or name.startswith(EXTRA)}
        entries["legacy"] = json_object({name: json_text(pl.col(column)) for name, column in kept.items()})
        problems = [problem for name, column in kept.items() for problem in _no_text(name, column)]
    frame = frame.with_columns(
        pl.when(~is_left_out).then(pl.lit("yes")).alias("executed"), json_object(entries).alias("assessment")
    )
    return add_problems(frame.with_columns(NO_PROBLEMS.alias("_problems")), *problems)


def _flag(inputs: FlowInputs, column: str) -> pl.Expr:
    """A flag in JSON; what is not known is NULL."""
    flags = inputs.context.value_maps["flag"]
    texts = flags.get_column("means").cast(pl.String)
    return code(pl.col(column)).replace_strict(flags.get_column("code"), texts, default=None, return_dtype=pl.String)


def _no_text(name: str, column: str) -> list[RowProblem]:
    return [RowProblem(found.when, found.reason, name, found.detail) for found in no_text([name], [pl.col(column)])]


@FUNCTIONS.register
def closed_requests(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Fills `updated_at` and `deleted_at`: of what was withdrawn, and of open requests of people who have left."""
    modified, created = pl.col(":modified_at"), pl.col(":created_at")
    now = pl.lit(inputs.context.cutover_at).cast(frame.schema[":created_at"])
    withdrawn_at = now if inputs.decision("deleted") == "cutover" else pl.col(":updated_at")
    counted = pl.when(modified.is_null()).then(pl.lit("no_modified_date"))
    frame = frame.with_columns(pl.coalesce(modified, created).alias(":updated_at")).with_columns(
        pl.when(pl.col(":withdrawn")).then(withdrawn_at).alias(":deleted_at"),
        pl.concat_list("_coercions", counted).list.drop_nulls().alias("_coercions"),
    )
    if inputs.decision("leavers_open_requests") == "keep":
        return frame
    last_day = pl.col("end_date").str.head(10).str.to_date("%Y-%m-%d", strict=False)
    leavers = inputs.mappings["oracle_employee"].select(
        pl.col("id").cast(pl.Int64).alias(":employee_id"), last_day.alias("_last_day")
    )
    joined = frame.join(leavers.collect(), on=":employee_id", how="left", maintain_order="left")
    left_at = localized(pl.col("_last_day").cast(pl.Datetime("us")), inputs.context.timezone)
    is_open = pl.col(":status").str.starts_with("pending_") & pl.col(":deleted_at").is_null()
    closes = (is_open & (pl.col("_last_day") < inputs.context.today)).fill_null(False)
    return joined.with_columns(
        pl.when(closes).then(pl.max_horizontal(left_at, created)).otherwise(":deleted_at").alias(":deleted_at"),
        pl.when(closes)
        .then(pl.concat_list("_coercions", pl.lit("leaver_closed")))
        .otherwise("_coercions")
        .alias("_coercions"),
    ).drop("_last_day")


@FUNCTIONS.register
def approximated_executions(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Fills `verification_metadata`, and counts what could not be approximated."""
    chosen = inputs.decision("execution_values")
    if chosen == "null":
        return frame.with_columns(pl.lit(None, pl.String).alias(":verification_metadata"))
    lost = {"executed_at": "no_execution_time", "execution_price": "no_price"}
    counted = [pl.when(pl.col(f":{name}").is_null()).then(pl.lit(kind)) for name, kind in lost.items()]
    named = [pl.when(pl.col(f":{name}").is_not_null()).then(pl.lit(f'"{name}"')) for name in APPROXIMATED]
    listed = pl.concat_str(*named, separator=",", ignore_nulls=True)
    metadata = pl.concat_str(pl.lit('{"approximated":['), listed, pl.lit('],"source":"legacy_migration"}'))
    return frame.with_columns(
        pl.concat_list("_coercions", *counted).list.drop_nulls().alias("_coercions"),
        pl.when(pl.lit(chosen == "approximate_marked")).then(metadata).alias(":verification_metadata"),
    )
