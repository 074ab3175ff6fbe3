"""Look-ups: what became of rows that others refer to, and what only several tables together say.

The first paragraph of a function's docstring is what people are told of it.
"""

import polars as pl
from polars import col as c

from dtx_assets.dispatch.transforms import moment, state_code, uuid_of
from dtx_assets.machinery.declare.own_rows import keys_of
from dtx_assets.machinery.look_ups.assets import MappingContext, References
from dtx_assets.machinery.mapping.execute import no_text
from dtx_assets.machinery.prepare.generic_key import rows_that_count
from dtx_assets.machinery.transforms.columns import canonical_integer, integer_value, uuid_value, with_reads
from dtx_assets.machinery.transforms.keys import field

REFERENCES = References("phase_1_core")
LARGEST = (1 << 31) - 1


def prepared(context: MappingContext, model: str) -> pl.LazyFrame:
    return context.lake.scan((context.system, "prepared", model))


@REFERENCES.register(("legacy", "auth_group"), is_crosswalk=True)
def group(context: MappingContext) -> pl.LazyFrame:
    """The groups of users and their names, and of which the name is no text that can be written."""
    rows = rows_that_count(context, "auth_group")
    known = rows.filter(canonical_integer(c("id")).is_not_null())
    wrong = pl.any_horizontal(problem.when.fill_null(False) for problem in no_text(["name"], [c("name")]))
    unwritable = pl.when(wrong).then("_source_key").alias("unwritable")
    return known.select(c("_source_key").alias("source_id"), c("name").alias("target_id"), unwritable)


@REFERENCES.register(
    ("legacy", "dispatch_office"), ("legacy", "dispatch_office_doctors"), ("legacy", "dispatch_patient")
)
def named_doctor(context: MappingContext) -> pl.LazyFrame:
    """Users whom an office, a link to an office or a patient names as doctor, migrated or not."""
    columns = {"dispatch_office": "doctor_id", "dispatch_office_doctors": "user_id", "dispatch_patient": "doctor_id"}
    users = [
        rows_that_count(context, table).select(canonical_integer(c(name)).alias("source_id"))
        for table, name in columns.items()
    ]
    return pl.concat(users).drop_nulls().unique().sort("source_id")


@REFERENCES.register(("prepared", "profiles"), is_crosswalk=True)
def user(context: MappingContext) -> pl.LazyFrame:
    """Users and their profiles, and which of them are doctors."""
    kinds = prepared(context, "profiles").select(c("id").alias("target_id"), "profile_type")
    is_doctor = pl.when(c("profile_type") == "doctor").then("target_id").alias("doctor")
    return (
        keys_of(context, "profiles", "auth_user").join(kinds, on="target_id").with_columns(is_doctor).sort("source_id")
    )


@REFERENCES.register(("prepared", "doctor_offices"), ("mapping", "user"), is_crosswalk=True)
def primary_office(context: MappingContext) -> pl.LazyFrame:
    """Doctors, as users, and their primary offices."""
    primary = (
        prepared(context, "doctor_offices").filter("is_primary").select("doctor_id", c("office_id").alias("target_id"))
    )
    doctors = context.mapping("user").select("source_id", c("doctor").alias("doctor_id"))
    return doctors.join(primary, on="doctor_id").select("source_id", "target_id").sort("source_id")


@REFERENCES.register(
    ("prepared", "profiles"),
    ("legacy", "dispatch_patient"),
    ("mapping", "user"),
    ("mapping", "office"),
    ("mapping", "primary_office"),
    ("decision", "order_office"),
    is_crosswalk=True,
)
def patient(context: MappingContext) -> pl.LazyFrame:
    """Patients and their profiles, and the doctor and office that the patient row names, or why there is none."""
    users = context.mapping("user").select(
        c("source_id").alias("doctor_key"), c("doctor"), pl.lit(True).alias("is_user")
    )
    offices = context.mapping("office").select(c("source_id").alias("office_key"), c("target_id").alias("own_office"))
    primary = context.mapping("primary_office").select(
        c("source_id").alias("doctor_key"), c("target_id").alias("primary")
    )
    rows = rows_that_count(context, "dispatch_patient").select(
        c("_source_key").alias("source_id"),
        "doctor_id",
        "office_id",
        canonical_integer(c("doctor_id")).alias("doctor_key"),
        canonical_integer(c("office_id")).alias("office_key"),
    )
    rows = keys_of(context, "profiles", "dispatch_patient").join(rows, on="source_id", how="left")
    rows = rows.join(users, on="doctor_key", how="left").join(offices, on="office_key", how="left")
    rows = rows.join(primary, on="doctor_key", how="left")
    takes_primary = c("office_id").is_null() & pl.lit(context.chosen["order_office"] == "doctor_primary")
    chosen = pl.when(takes_primary).then("primary").otherwise("own_office")
    lost = pl.lit("no_matching_row")
    return rows.select(
        "source_id",
        "target_id",
        "doctor",
        pl.when(c("doctor_id").is_null())
        .then(lost)
        .when(c("doctor_key").is_null())
        .then(pl.lit("unparseable"))
        .when(c("is_user").is_null())
        .then(pl.lit("orphan_reference"))
        .when(c("doctor").is_null())
        .then(lost)
        .alias("doctor_problem"),
        chosen.alias("office"),
        # Where there is no doctor, nobody looks for his office.
        pl.when(c("office_id").is_null() & chosen.is_null() & ~(takes_primary & c("doctor").is_null()))
        .then(lost)
        .when(c("office_id").is_not_null() & c("office_key").is_null())
        .then(pl.lit("unparseable"))
        .when(c("office_id").is_not_null() & chosen.is_null())
        .then(pl.lit("orphan_reference"))
        .alias("office_problem"),
        (takes_primary & chosen.is_not_null()).alias("office_guessed"),
    ).sort("source_id")


@REFERENCES.register(("prepared", "order_types"), is_crosswalk=True)
def course(context: MappingContext) -> pl.LazyFrame:
    """Courses and the types of orders that they became."""
    names = prepared(context, "order_types").select(c("id").alias("target_id"), "name")
    return keys_of(context, "order_types", "dispatch_course").join(names, on="target_id").sort("source_id")


@REFERENCES.register(
    ("legacy", "dispatch_state"), ("decision", "unknown_status"), ("mapping", "standard"), is_crosswalk=True
)
def latest_state(context: MappingContext) -> pl.LazyFrame:
    """Instructions and the code of their latest state row that is on and can be migrated."""
    reading = context.reading()
    code = state_code([c("status")], reading, context.chosen["unknown_status"])
    at = moment([c("changed_at")], reading)
    wrong = [problem.when.fill_null(False) for problem in (*code.problems, *at.problems)]
    number, actor = (integer_value(c(name)).is_between(-LARGEST - 1, LARGEST) for name in ("id", "actor_id"))
    wrong += [c("actor_id").is_not_null() & actor.fill_null(False).not_(), c("status").is_null()]
    rows = with_reads(rows_that_count(context, "dispatch_state"), reading.reads or {}).filter(
        (field(c("on"), "boolean") == "true").fill_null(False), number.fill_null(False), ~pl.any_horizontal(wrong)
    )
    rows = rows.select(
        canonical_integer(c("instruction_id")).alias("source_id"),
        code.value.cast(pl.String).alias("target_id"),
        at.value.alias("at"),
        integer_value(c("id")).alias("number"),
    )
    latest = rows.drop_nulls("source_id").sort("at", "number", nulls_last=False)
    return latest.group_by("source_id").agg(c("target_id").last()).sort("source_id")


@REFERENCES.register(("prepared", "orders"), ("prepared", "instruction_states"), ("legacy", "dispatch_instruction"))
def used_status(context: MappingContext) -> pl.LazyFrame:
    """The codes of states that migrated rows use."""
    states = prepared(context, "instruction_states").select(c("status_code").cast(pl.String).alias("code"))
    codes = context.legacy("dispatch_instruction").select(canonical_integer(c("status")).alias("code"))
    of_orders = prepared(context, "orders").select(c("current_state_id").alias("id"))
    every = pl.concat([states, codes]).drop_nulls().unique().with_columns(uuid_of("order_state", c("code")).alias("id"))
    used = pl.concat([states.unique(), every.join(of_orders, on="id", how="semi").select("code")])
    return used.unique().sort(c("code").cast(pl.Int64))


@REFERENCES.register_files("dispatch_project", may_be_missing=True)
def project_file_inventory(_context: MappingContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the files of projects hold: size, time and SHA-256, or why a file cannot be had."""
    return rows.select(uuid_value(c("uid")).cast(pl.Binary).alias("path"))
