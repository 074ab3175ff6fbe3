"""What trading requests have to hold before anybody signs for them: the checks that no declaration calls for.

Their names, severities and sentences stand in `checks.csv`. Most ask about legacy rows as `requests` reads them:
`:column` is what a column means, and what the reference tables say of what it names stands beside.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from polars import col as c
from psycopg import sql

from dtx_assets.machinery.checks.columns import deciding
from dtx_assets.machinery.checks.own import Checks, Find, Look
from dtx_assets.machinery.checks.spec import CheckOutcome, found
from dtx_assets.machinery.mapping.cases import case_value
from dtx_assets.machinery.mapping.conditions import drop_rules
from dtx_assets.machinery.mapping.model import ColumnMapping
from dtx_assets.machinery.postgres.ddl import qualified, read_live_targets
from dtx_assets.machinery.postgres.untouched import touched_by_runs
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import code
from dtx_assets.machinery.transforms.listed import id_in, spelling_in
from dtx_assets.machinery.transforms.times import instant
from dtx_assets.pad.functions import TABLE
from dtx_assets.pad.transforms import HUNDREDTH, IDENTIFIERS, related_party

CHECKS = Checks()
LINES = Path(__file__).with_name("checks.csv")
MODELS = ("pad_request", "pad_approval", "pad_execution")
PEOPLE = ("employee", "auth_manager", "auth_compliance", "last_modified_by")
TIMES = ("requested_date", "auth_manager_date", "auth_compliance_date", "last_modified_date")
APPROVERS, AMOUNTS = ("manager", "compliance"), ("trade_size", "value")
CODES = ("status", "status_manager", "status_compliance", "inside_info_yn", "is_deleted_yn")
FIRST_DAY, OVERDUE = datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=2)


def either(tests: Any) -> pl.Expr:
    return pl.any_horizontal(test.fill_null(False) for test in tests)


def stated(name: str) -> pl.Expr:
    return code(c(name)).replace("", None)


def employees(look: Look) -> pl.LazyFrame:
    last_day = c("end_date").str.head(10).str.to_date("%Y-%m-%d", strict=False)
    return look.mapping("oracle_employee").select(c("id", "manager_id").cast(pl.Int64), last_day)


def requests(look: Look) -> pl.LazyFrame:
    """The legacy rows with what their columns mean, and what the reference tables say of what they name."""
    context = deciding(look)
    execution = look.system.mappings.for_target("pad_execution").sources[TABLE]
    left_out = drop_rules(execution.drop, look.chosen)["not_executed"]
    rows = look.legacy(TABLE).with_columns(
        *(
            id_in([c(name)], context, "oracle_employee", look.chosen["people"]).value.alias(f":{name}")
            for name in PEOPLE
        ),
        *(instant([c(name)], context, counted=False).value.alias(f":{name}") for name in TIMES),
        *(code(c(name)).alias(f":{name}") for name in CODES),
        *(c(name).cast(pl.Float64, strict=False).alias(f":{name}") for name in AMOUNTS),
        spelling_in([c("currency")], context, "currency", "currency", "keep", HUNDREDTH).value.alias(":currency"),
        c("inst_symbol").str.strip_chars().alias(":inst_symbol"),
        pl.when(~left_out).then(pl.lit("yes")).alias("executed"),
    )
    for name in PEOPLE[:3]:
        beside = employees(look).select(pl.all().name.prefix(f"{name}."))
        rows = rows.join(beside, left_on=f":{name}", right_on=f"{name}.id", how="left")
    is_deleted = (code(c("is_deleted_yn")) == "y").fill_null(False)
    securities = look.mapping("oracle_bloomberg").group_by(c("inst_symbol").str.strip_chars().alias(":inst_symbol"))
    theirs = (stated(name).filter(~is_deleted).first().alias(f"their {name}") for name in IDENTIFIERS[:2])
    counted = securities.agg((~is_deleted).sum().alias("hits"), is_deleted.sum().alias("deleted"), *theirs)
    listed = look.mapping("currency").select(c("currency").alias(":currency"), pl.lit(True).alias("listed")).unique()
    rows = rows.join(counted, on=":inst_symbol", how="left").join(listed, on=":currency", how="left")
    status = case_value("request_status", look.value_maps["request_status"], look.chosen).value
    price = pl.when(c("executed").is_not_null() & (c(":trade_size") != 0)).then(c(":value") / c(":trade_size")).abs()
    return rows.with_columns(status.alias(":new_status"), c("hits", "deleted").fill_null(0), price.alias(":price"))


def arrivals(look: Look) -> pl.LazyFrame:
    """The requests as they would be written, with their approvals, executions, employees, and whose their ids are."""
    request, approval, execution = (look.prepared(model) for model in MODELS)
    approvals = approval.group_by(c("request_id").alias("id")).agg(
        (c("approval_type") == "compliance").any().alias("by_compliance"),
        (c("decision") == "declined").any().alias("has_declined"),
        c("decided_at").max(),
    )
    executions = execution.select(c("request_id").alias("id"), pl.lit(True).alias("was_executed"))
    rows = request.join(employees(look).select("end_date", employee_id="id"), on="employee_id", how="left")
    for beside in (approvals, executions, ids_of_others(look)):
        rows = rows.join(beside, on="id", how="left")
    return rows.with_columns(c("id").alias("source_id"), c("decided_at").fill_null(c("updated_at")))


def ids_of_others(look: Look) -> pl.LazyFrame:
    ids = sql.SQL("SELECT id FROM {} AS r").format(qualified(look.system.target("pad_request")))
    if look.select("SELECT to_regclass('migration.mapping')::text").collect().item() is not None:
        ids += sql.SQL(
            " WHERE NOT EXISTS (SELECT FROM migration.mapping"
            " WHERE (system, target_table) = ({}, 'pad_request') AND target_id = r.id::text)"
        ).format(look.system.name)
    return look.select(ids).select(c("id").cast(pl.Int64), pl.lit(True).alias("is_taken"))


def names(look: Look) -> pl.LazyFrame:
    """A row an employee, with how many names their requests give."""
    employee = pl.coalesce(c(":employee").cast(pl.String), c("employee").str.strip_chars())
    rows = requests(look).group_by(source_id=employee)
    return rows.agg(names=c("name").drop_nulls().n_unique())


def changed(look: Look) -> pl.LazyFrame:
    """The legacy rows with `changed_at`, and `migrated_at` of those that changed after the first run."""
    changed_at = instant([c("last_modified_date")], deciding(look), counted=False).value.alias("changed_at")
    rows = look.legacy(TABLE).with_columns(changed_at)
    written, first = "FROM migration.mapping WHERE system = %s AND target_table = 'pad_request'", None
    if look.select("SELECT to_regclass('migration.mapping')::text").collect().item() is not None:
        first = look.select(f"SELECT min(migrated_at) {written}", [look.system.name]).collect().item()
    if first is None:
        return rows.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias("migrated_at"))
    late = rows.filter(c("changed_at") > first).select("_source_key").collect().to_series().to_list()
    at = look.select(
        f"SELECT source_key, migrated_at {written} AND source_key = ANY(%s)", [look.system.name, late]
    ).select(c("source_key").cast(pl.String).alias("_source_key"), c("migrated_at").cast(pl.Datetime("us", "UTC")))
    return rows.join(at, on="_source_key", how="left")


def codes(system: System) -> dict[str, ColumnMapping]:
    """The code columns, with how the mapping files read them."""
    sources = [system.mappings.for_target(model).sources[TABLE] for model in MODELS]
    made = [column for source in reversed(sources) for _, column in source.made]
    return {column.from_[0]: column for column in made if column.value_map and not column.input}


def unlisted(look: Look) -> list[pl.Expr]:
    """Where a code is none that the mapping files list, a column each."""
    return [
        ~look.lists(str(column.value_map), c(name)) & (c(name).is_not_null() | pl.lit(not column.allow_null))
        for name, column in codes(look.system).items()
    ]


def too_large(look: Look) -> Iterator[pl.Expr]:
    """Where a value has more digits, decimals or characters than its live column."""
    target = look.system.target("pad_request")
    live = read_live_targets(look.target_url(), [target])[target.model].columns if look.target_url else {}
    if "related_party_name" in live and (under := look.chosen["name"]) != "ignore":
        written = related_party([c("name"), c("related_yn")], deciding(look), under).value
        yield written.str.len_chars() > live["related_party_name"].max_length
    for name, column in look.system.mappings.for_target(target.model).sources[TABLE].columns.items():
        if name not in live or len(column.from_) != 1:
            continue
        text, kind = c(column.from_[0]), live[name].kind
        if kind.name == "numeric" and kind.arguments:
            precision, scale = map(int, kind.arguments)
            digits = text.str.extract(r"^-?0*([0-9]*)", 1).str.len_chars()
            decimals = text.str.extract(r"\.([0-9]*?)0*$", 1).str.len_chars()
            yield (digits > precision - scale) | (decimals > scale)
        elif live[name].max_length is not None and not column.value_map:
            shown = text.str.strip_chars() if column.transform in ("trimmed", "spelling_in") else text
            yield shown.str.len_chars() > live[name].max_length


def of_requests(look: Look) -> dict[str, pl.Expr]:
    named = {who: c(f"auth_{who}").is_not_null() for who in APPROVERS}
    at = {who: c(f":auth_{who}_date") for who in APPROVERS}
    decided = {who: c(f":status_{who}").is_in(["approved", "declined"]).fill_null(False) for who in APPROVERS}
    told = {
        who: c(f"auth_{who}_date").is_not_null() | (c(f"comments_{who}") != "").fill_null(False) for who in APPROVERS
    }
    last = deciding(look).cutover_at
    day = {name: c(f":{name}").dt.convert_time_zone(look.settings.legacy_timezone).dt.date() for name in TIMES}
    last_days = zip(PEOPLE[:3], TIMES[:3], strict=True)
    nobody_declined = either(c(f":{name}") == "declined" for name in CODES[:3]).not_()
    undecided = (c(":status") == "approved") & c(":status_compliance").is_null()
    undecided |= (c(":status") == "request") & (c(":status_manager") == "approved")
    usual = c(":price").median().over(":inst_symbol", ":currency")
    before = [named[who] & (at[who] < c(":requested_date")) for who in APPROVERS]
    theirs = [stated(name) != c(f"their {name}") for name in IDENTIFIERS[:2]]
    known = {name: c(name).is_null() | c(f":{name}").is_not_null() for name in PEOPLE}
    return {
        "codes_are_known": either(unlisted(look)),
        "status_combinations_are_planned": undecided & nobody_declined,
        "employees_exist": c(":employee").is_null(),
        "approvers_exist": ~(known["auth_manager"] & known["auth_compliance"]),
        "modifiers_exist": ~known["last_modified_by"],
        "approvers_have_decided": either(named[who] & ~decided[who] for who in APPROVERS),
        "decisions_have_an_approver": either(~named[who] & (decided[who] | told[who]) for who in APPROVERS),
        "approvals_follow_the_request": either([*before, named["compliance"] & (at["compliance"] < at["manager"])]),
        "dates_are_plausible": either(~c(f":{name}").is_between(FIRST_DAY, last) for name in TIMES),
        "nobody_approves_their_own_request": either(c(":employee") == c(f":auth_{who}") for who in APPROVERS),
        "two_people_approve": c(":auth_manager") == c(":auth_compliance"),
        "managers_are_the_employees": c(":auth_manager") != c("employee.manager_id").fill_null(-1),
        "people_were_employed": either(day[time] > c(f"{name}.end_date") for name, time in last_days),
        "inside_information_stopped_the_request": c(":inside_info_yn").is_in(["1", "1.0"])
        & c(":new_status").is_in(["approved", "executed"]),
        "securities_are_unambiguous": c("hits") > 1,
        "securities_are_found": c(":inst_symbol").is_not_null() & (c("hits") == 0),
        "securities_agree": (c("hits") == 1) & either(theirs),
        "currencies_are_listed": c(":currency").is_not_null() & c("listed").is_null(),
        "amounts_are_positive": ~pl.all_horizontal((c(f":{name}") > 0).fill_null(False) for name in AMOUNTS),
        "prices_are_plausible": (c(":price") > 100 * usual) | (c(":price") < usual / 100),
        "no_request_is_deleted": c(":is_deleted_yn") == "y",
    }


def of_arrivals(look: Look) -> dict[str, pl.Expr]:
    context, is_open, stays = deciding(look), c("status").str.starts_with("pending_"), c("deleted_at").is_null()
    late = c("decided_at") + OVERDUE < context.cutover_at
    allowed, declined = c("status").is_in(["approved", "executed"]), c("status") == "declined"
    return {
        "approved_requests_have_their_approvals": (allowed & ~c("by_compliance").fill_null(False))
        | (declined & ~c("has_declined").fill_null(False)),
        "declined_requests_were_not_executed": declined & c("was_executed"),
        "executions_follow_an_approval": is_open & c("was_executed"),
        "approved_requests_are_executed": (c("status") == "approved") & stays & late,
        "open_requests_have_their_employee": is_open & stays & (c("end_date") < context.today),
        "request_ids_are_free": c("is_taken"),
    }


def values_shown(look: Look, check: str) -> dict[str, Any]:
    """What a check shows beside what it found."""
    combination = pl.concat_str(*(c(name).fill_null("NULL") for name in CODES[:3]), separator=" / ")
    hundredths = pl.when(c("currency").str.strip_chars().str.contains(f"{HUNDREDTH}|^GBX$")).then("currency")
    found_deleted = pl.when(c("deleted") > 0).then(pl.lit("deleted ones only")).otherwise(pl.lit("none"))
    shown: dict[str, dict[str, Any]] = {
        "codes_are_known": {"all_values": {name: c(name).fill_null("NULL") for name in codes(look.system)}},
        "status_combinations_are_planned": {
            "all_values": {"matrix": pl.format("{} → {}", combination, c(":new_status").fill_null("rejected"))}
        },
        "securities_are_found": {"values": {"there are": found_deleted}},
        "currencies_are_listed": {"values": {"codes": c("currency")}, "all_values": {"hundredths": hundredths}},
        "no_request_is_deleted": {"facts": {"deleted": look.chosen["deleted"]}},
        "names_are_redundant": {"facts": {"name": look.chosen["name"]}},
    }
    return shown.get(check, {})


def asked(check: str, show: list[str], look: Look) -> Find | CheckOutcome:
    if check == "reference_tables_are_untouched":
        with look.target() as connection:
            touched = touched_by_runs(connection, look.system.name, look.system.tables_of_others)
        return found(sum(sum(counts.values()) for counts in touched.values()), tables=touched)
    if check == "values_fit_their_columns":
        return Find(either(too_large(look)), show=show)
    made = of_requests(look) if look.asset[0] == "legacy" else of_arrivals(look)
    made |= {"names_are_redundant": c("names") > 1, "no_row_changed_since": c("changed_at") > c("migrated_at")}
    return Find(made[check], show=show, masked=show, **values_shown(look, check))


ROWS = {function.__name__: function for function in (requests, arrivals, names, changed)}
NEEDED = {
    "legacy": ("mapping/oracle_employee", "mapping/oracle_bloomberg", "mapping/currency"),
    "prepared": ("mapping/oracle_employee", *(f"prepared/{model}" for model in MODELS[1:])),
    "target": tuple(f"target/{model}" for model in MODELS),
}
for _name, _severity, _asset, _rows, _holds_when, _show in pl.read_csv(LINES).fill_null("").iter_rows():
    CHECKS.on(
        _asset,
        _severity,
        blocking=_severity == "ERROR" and not _asset.startswith("target/"),
        rows=ROWS.get(_rows),
        needs=NEEDED[_asset.partition("/")[0]],
        name=_name,
        description=_holds_when,
    )(lambda look, name=_name, show=_show: asked(name, show.split(), look))
