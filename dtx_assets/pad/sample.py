"""A sample of trading requests of any size, with the rows of the reference tables beside it; same seed, same bytes.

A fifth of the requests is open, three fifths are approved and mostly executed, the rest is declined. Rows that break
what the contract says, one by one, stand in `ugly_rows.yaml`.
"""

from pathlib import Path

import polars as pl
from polars import col as c

from dtx_assets.machinery.samples.listed import listed_rows, write_listed_sample
from dtx_assets.machinery.samples.rows import POSITION, Rows
from dtx_assets.pad.functions import TABLE

MANAGERS, OFFICERS = 5, 4
WORDS = ("Savings", "Rebalancing", "House purchase", "Long-term holding", "Tax", "Inheritance")
FLAGS = (
    *("related_yn", "broker_reporting_yn", "derivative_contract_yn", "leveraged_yn", "inside_info_yn"),
    *("existing_pos_yn", "signed_yn", "restricted_yn", "holding_period_yn", "conflicts_yn"),
)
SHARES = dict(zip(FLAGS, (0.1, 0.5, 0.05, 0.03, 0.0, 0.3, 1.0, 0.02, 0.9, 0.01), strict=True))
"""Of each flag, in which share of the requests it is `1`."""
CURRENCIES = ("GBP", "USD", "EUR", "CHF", "SEK")


def employees_of(rows: int) -> pl.DataFrame:
    numbers = pl.DataFrame({"id": range(1, max(40, rows // 20) + 1)})
    return numbers.select(
        "id",
        pl.format("user{}", "id").alias("mako_id"),
        (1 + c("id") % MANAGERS).alias("manager_id"),
        pl.when(c("id") > MANAGERS + OFFICERS, c("id") % 20 == 0).then(pl.lit("2020-03-31")).alias("end_date"),
    )


def securities_of(rows: int) -> pl.DataFrame:
    number = pl.int_range(1, max(30, rows // 50) + 1, eager=True).alias("id").to_frame()
    padded = c("id").cast(pl.String).str.zfill(7)
    names = number.with_columns(pl.format("SYM{}", "id").alias("inst_symbol"), padded.alias("sedol"))
    names = names.with_columns(pl.format("GB000{}", "sedol").alias("isin"), c("inst_symbol").alias("ticker"))
    # Two of one symbol, deleted ones alone, and deleted beside another.
    spoilt = c("id").replace_strict({2: "SYM1", 4: "SYM3"}, default=c("inst_symbol"), return_dtype=pl.String)
    return names.select(
        "id",
        pl.format("{} LN Equity", "inst_symbol").alias("bloomberg"),
        spoilt.alias("inst_symbol"),
        "isin",
        "sedol",
        "ticker",
        pl.when(c("id").is_in([4, 5])).then(pl.lit("Y")).otherwise(pl.lit("N")).alias("is_deleted_yn"),
    )


def requests(rows: Rows, employees: int, securities: int) -> dict[str, pl.Expr]:
    """The columns that are not NULL, over a row's position."""
    staff, kind = MANAGERS + OFFICERS, rows.noise("kind") % 20
    employee = staff + 1 + rows.noise("employee") % (employees - staff)
    employee = pl.when(employee % 20 == 0).then(employee - 1).otherwise(employee)
    security = 6 + rows.noise("security") % (securities - 5)
    minute = pl.duration(minutes=1)
    asked = pl.datetime(2019, 1, 1) + minute * (rows.position % 3_000_000 + rows.noise("asked") % 600)
    by_manager, by_officer = asked + minute * (30 + rows.noise("hours") % 600), asked + minute * 2_000
    is_open, is_refused, is_late = kind < 4, kind.is_between(4, 6), kind == 7
    has_officer = ~is_open & ~is_refused
    was_executed = has_officer & ~is_late & (kind < 19)
    size = 1 + rows.noise("size") % 5_000
    yes_or_no = {name: pl.when(rows.chance(name, share)).then(pl.lit("1")) for name, share in SHARES.items()}
    flags = {name: yes.otherwise(pl.lit("2")) for name, yes in yes_or_no.items()}
    when = {
        "requested_date": asked,
        "last_modified_date": by_officer + minute,
        "auth_manager_date": pl.when(~is_open).then(by_manager),
        "auth_compliance_date": pl.when(has_officer).then(by_officer),
    }
    decision = pl.when(is_refused | is_late).then(pl.lit("declined")).otherwise(pl.lit("approved"))
    decision = pl.when(is_open).then(pl.lit("request")).otherwise(decision)
    of_officer = pl.when(is_late).then(pl.lit("declined")).otherwise(pl.lit("approved"))
    return (
        flags
        | {name: at.dt.strftime("%Y-%m-%d %H:%M:%S") for name, at in when.items()}
        | {
            "id": rows.position + 1,
            "employee": employee,
            "name": pl.format("Employee {}", employee),
            "security_description": pl.format("Ordinary shares of company {}", security),
            "isin": pl.format("GB000{}", security.cast(pl.String).str.zfill(7)),
            "sedol": security.cast(pl.String).str.zfill(7),
            "inst_symbol": pl.format("SYM{}", security),
            "bloomberg": pl.format("SYM{} LN Equity", security),
            "ticker": pl.format("SYM{}", security),
            "trade_size": size,
            "value": pl.format("{}.50", size * (10 + security % 90)),
            "currency": rows.pick("currency", CURRENCIES, security),
            "justification": rows.pick("justification", WORDS),
            "buysell": rows.pick("buysell", ("B", "B", "S")),
            "status": decision,
            "auth_manager": pl.when(~is_open).then(1 + employee % MANAGERS),
            "status_manager": pl.when(is_refused).then(pl.lit("declined")).when(~is_open).then(pl.lit("approved")),
            "auth_compliance": pl.when(has_officer).then(MANAGERS + 1 + rows.noise("officer") % OFFICERS),
            "status_compliance": pl.when(has_officer).then(of_officer),
            "comments_compliance": pl.when(has_officer & rows.chance("told", 0.3)).then(pl.lit("Seen, thank you")),
            "two_business_days_execution_yn": pl.when(was_executed).then(pl.lit("1")),
            "contract_notes_received_yn": pl.when(was_executed).then(rows.pick("notes", ("1", "1", "2"))),
            "last_modified_by": employee,
            "is_deleted_yn": pl.lit("N"),
        }
    )


def write_sample(
    directory: Path, rows: int, seed: int, *, ugly: bool = True, ugly_share: float = 0.0, **_: object
) -> dict[str, int]:
    """Writes `personal_account_dealing.csv` and the reference tables' rows; gives how many rows of each.

    `ugly` adds the ugly rows once; `ugly_share` puts an ugly row's values into that share of the others.
    """
    from dtx_assets.pad.decided_system import SYSTEM

    table, staff, securities = SYSTEM.legacy_tables[TABLE], employees_of(rows), securities_of(rows)
    others = {"oracle_employee": staff, "oracle_bloomberg": securities}
    others["currency"] = pl.DataFrame({"currency": CURRENCIES})
    place = Rows(seed, TABLE, lambda _: rows, ugly_share=ugly_share)
    made = requests(place, staff.height, securities.height)
    columns = {name: made.get(name, pl.lit(None)).cast(pl.String) for name in table.columns}
    sound = pl.DataFrame({POSITION: range(rows, rows + 100)}).select(**columns).filter(c("status") == "approved")
    like = sound.drop_nulls("two_business_days_execution_yn").row(0, named=True)
    spoilt = listed_rows(Path(__file__).with_name("ugly_rows.yaml"), table, like, rows + 1_000)
    return write_listed_sample(directory, table, columns, place, spoilt, others, add=ugly)
