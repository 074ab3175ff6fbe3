"""What a table of columns cannot say: who is what kind of person, which office comes first, what hangs on what.

Mapping files name these functions. Each sees the rows of one batch: those of one person, doctor, order or message.
"""

import polars as pl
from polars import col as c

from dtx_assets.dispatch.transforms import standard_codes, uuid_of
from dtx_assets.machinery.files.content_types import content_type_of
from dtx_assets.machinery.files.paths import object_name
from dtx_assets.machinery.mapping.execute import NO_PROBLEMS, RowProblem, add_problems
from dtx_assets.machinery.mapping.functions import Functions
from dtx_assets.machinery.mapping.provenance import cell, cells, made_of
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import (
    canonical_integer,
    code,
    json_strings,
    json_text,
    uuid_value,
)
from dtx_assets.machinery.transforms.keys import with_members

FUNCTIONS = Functions()
E_MAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
FIELDS = (
    *("phone", "address", "city", "state", "zip_code", "insurance_provider", "insurance_id"),
    *("emergency_contact_name", "emergency_contact_phone", "medical_history", "allergies", "medications"),
)
"""What the plan's DEFAULT_PATIENT_FIELDS are called."""


def counted(frame: pl.DataFrame, kind: str, when: pl.Expr) -> pl.DataFrame:
    """The parts with a coercion of some of them."""
    more = pl.concat_list("_coercions", pl.lit(kind))
    return frame.with_columns(pl.when(when).then(more).otherwise("_coercions").alias("_coercions"))


# --- profiles ---------------------------------------------------------------------------------------------------------


@FUNCTIONS.register
def emails_of_users(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `:email`, where it is valid; one that is not is a part of its own, with a problem."""
    text = c(":email_text").str.strip_chars()
    is_wrong = (text != "").fill_null(False) & ~text.str.contains(E_MAIL)
    valid = pl.when((text != "") & ~is_wrong).then(text).alias(":email")
    rows = rows.with_columns(valid, pl.when(is_wrong).then(":email_text").alias(":wrong_email"))
    wrong = rows.filter(c(":wrong_email").is_not_null()).with_columns(NO_PROBLEMS.alias("_problems"))
    found = RowProblem(pl.lit(True), "invalid_email", "email", "is no address")
    return pl.concat([rows.with_columns(NO_PROBLEMS.alias("_problems")), add_problems(wrong, found)])


def own_types(users: pl.DataFrame, groups: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """What kind of person each user is for himself, by groups, references and flags: `:id`, `_type`, `_groups`."""
    listed = inputs.context.value_maps["group_profile_type"].select(
        code(c("group")).alias("_name"), c("profile_type").alias("_listed"), c("rank").cast(pl.Int64).alias("_rank")
    )
    named = groups.select(":id", ":group").with_columns(code(c(":group")).alias("_name"))
    names = named.group_by(":id").agg(c(":group").drop_nulls().unique().sort().alias("_groups"))
    ranked = named.join(listed, on="_name").sort("_rank").group_by(":id").agg(c("_listed").first())
    doctors = inputs.mappings["named_doctor"].collect().get_column("source_id")
    doctor = pl.when(c(":legacy_user_id").cast(pl.String).is_in(doctors.implode())).then(pl.lit("doctor"))
    master = pl.when(":is_superuser").then(pl.lit("master"))
    technician = pl.when(":is_staff").then(pl.lit("technician"))
    if inputs.decision("profile_type") == "plan":
        kind = pl.coalesce(technician, master, pl.lit("client"))
    else:
        kind = pl.coalesce("_listed", doctor, master, technician, pl.lit("client"))
    joined = users.join(names, on=":id", how="left").join(ranked, on=":id", how="left")
    return joined.select(":id", kind.alias("_type"), "_groups")


@FUNCTIONS.register
def roles_of_patients(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `_user`, the profile of the user, and `_own_type`, what he is for himself; no such user is a problem."""
    users = inputs.migrated["auth_user"]
    types = own_types(users, inputs.migrated["auth_user_groups"], inputs)
    types = types.select(c(":id").alias("_user"), c("_type").alias("_own_type"))
    rows = rows.with_columns(uuid_of("auth_user", canonical_integer(c("user_id"))).alias("_user"))
    rows = rows.join(types, on="_user", how="left", maintain_order="left")
    is_lost = c("_user").is_not_null() & c("_own_type").is_null()
    return add_problems(rows, RowProblem(is_lost, "orphan_reference", "user_id", "no such user is migrated"))


@FUNCTIONS.register
def profiles_of_patients(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `:id`, the profile that a patient row goes to, and `:fills`: whether it gives its values."""
    rows = rows.sort(":updated_at", ":legacy_patient_id", nulls_last=False)
    alone = pl.when(c("_user").is_null()).then("_row")
    last = c(":legacy_patient_id").last().over("_user", alone)
    has_two = c("_own_type").is_in(["client", "patient"]).not_().fill_null(False)
    splits = inputs.decision("profile_type") == "groups" and inputs.decision("several_roles") == "split"
    own = uuid_of("dispatch_patient", last.cast(pl.String))
    is_own = c("_user").is_null() | (has_two & pl.lit(splits))
    rows = rows.with_columns(
        pl.when(is_own).then(own).otherwise("_user").alias(":id"),
        (c(":legacy_patient_id") == last).alias(":fills"),
        is_own.alias(":is_own"),
        c("_user").alias(":user"),
        NO_PROBLEMS.alias("_problems"),
    )
    if inputs.decision("several_patients") == "merge":
        return rows
    lost = RowProblem(~c(":fills"), "duplicate_key", "user_id", "a patient row of this user that changed later counts")
    return add_problems(rows, lost)


@FUNCTIONS.register
def one_row_a_person(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The profiles: each user with what his patient rows say, and the patients who have one of their own."""
    users, groups, patients = (
        parts.filter(c("_source") == table) for table in ("auth_user", "auth_user_groups", "dispatch_patient")
    )
    users = users.join(own_types(users, groups, inputs), on=":id", how="left", maintain_order="left")
    others = patients.filter(~c(":fills")).sort(":legacy_patient_id")
    several = others.group_by(":id").agg(c(":legacy_patient_id").cast(pl.String).alias("_patients"))
    of_patient = (":legacy_patient_id", ":date_of_birth", ":gender", ":updated_at", ":facts")
    filling = patients.filter(":fills").select(
        ":id", ":is_own", ":user", c(":created_at").alias("_submitted_at"), *of_patient
    )
    filling = filling.join(several, on=":id", how="left")
    of_user = (
        "_type",
        "_groups",
        ":legacy_user_id",
        ":first_name",
        ":last_name",
        ":email",
        ":is_active",
        ":created_at",
    )
    flags = (":username", ":is_staff", ":is_superuser", ":last_login", ":wrong_email")
    users = users.select(":id", *of_user, *flags)
    shared = users.join(filling.filter(~c(":is_own")), on=":id", how="left", maintain_order="left")
    theirs = users.select(c(":id").alias(":user"), *of_user)
    own = filling.filter(":is_own").join(theirs, on=":user", how="left", maintain_order="left")
    own = own.with_columns(
        c(":first_name", ":last_name").fill_null(""),
        c(":is_active").fill_null(True),
        pl.when(c(":user").is_null()).then("_submitted_at").otherwise(":created_at").alias(":created_at"),
        pl.lit(None, pl.List(pl.String)).alias("_groups"),
        c(":legacy_user_id").alias("_user_of_own"),
        pl.lit(None, pl.Int64).alias(":legacy_user_id"),
        pl.lit("patient").alias("_type"),
    )
    people = pl.concat([shared, own], how="diagonal")
    is_patient = c(":legacy_patient_id").is_not_null()
    other = is_patient & c("_type").is_in(["client", "patient"]).not_()
    role = pl.when(other & pl.lit(inputs.decision("profile_type") == "groups")).then("_type")
    kind = pl.when(is_patient).then(pl.lit("patient")).otherwise("_type")
    texts = {"username": ":username", "email": ":wrong_email"}
    members = {name: json_text(c(column)) for name, column in texts.items()} | {
        "is_staff": c(":is_staff").cast(pl.String),
        "is_superuser": c(":is_superuser").cast(pl.String),
        "last_login": json_text(c(":last_login").dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        "groups": pl.when(c("_groups").list.len() > 0).then(json_strings(c("_groups"))),
        "legacy_patient_ids": pl.when(c("_patients").list.len() > 0).then(
            pl.format("[{}]", c("_patients").list.join(","))
        ),
        "legacy_user_id": c("_user_of_own").cast(pl.String),
        "role": json_text(role),
    }
    if "_user_of_own" not in people.columns:
        people = people.with_columns(pl.lit(None, pl.Int64).alias("_user_of_own"))
    return people.with_columns(
        kind.alias(":profile_type"),
        with_members(c(":facts").fill_null("{}"), members).alias(":metadata"),
        *(pl.when(kind == "patient").then(pl.lit("")).alias(f":{name}") for name in FIELDS),
    )


# --- offices ----------------------------------------------------------------------------------------------------------


@FUNCTIONS.register
def own_doctors(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The link of each migrated office to its own doctor; a user who is not there, or no doctor, is a problem."""
    rows = rows.filter(c(":office_id").is_not_null(), c("doctor_id").is_not_null())
    rows = rows.with_columns(
        c(":doctor").alias(":doctor_id"), pl.lit(True).alias(":names_him"), NO_PROBLEMS.alias("_problems")
    )
    return add_problems(
        rows,
        RowProblem(c(":user").is_null(), "orphan_reference", "doctor_id", "no such user is migrated"),
        RowProblem(
            c(":user").is_not_null() & c(":doctor").is_null(), "no_matching_row", "doctor_id", "the user is no doctor"
        ),
    )


@FUNCTIONS.register
def guessed_primary_offices(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows of the link table; counted is the office that is a doctor's primary one because it comes first."""
    if inputs.decision("primary_office") == "owner_only":
        return rows
    has_own = c(":doctor_id").is_in(inputs.migrated["dispatch_office"][":doctor_id"].implode())
    first = c("_row").sort_by(":office_number", "_row").first().over(":doctor_id")
    return counted(rows, "guessed_primary_office", ~has_own & (c("_row") == first))


@FUNCTIONS.register
def one_link_a_pair(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a doctor and office; one of a doctor's is his primary one, if any."""
    named = c(":names_him").fill_null(False) if ":names_him" in parts.columns else pl.lit(False)
    pairs = parts.with_columns(named.alias("_named")).group_by(":doctor_id", ":office_id", maintain_order=True)
    links = pairs.agg(c(":id", ":doctor_type", ":role", ":office_number").first(), c("_named").any())
    own = pl.when("_named").then(":office_number").min().over(":doctor_id")
    first = c(":office_number").min().over(":doctor_id")
    if inputs.decision("primary_office") == "owner_only":
        first = pl.lit(None, pl.Int64)
    primary = c(":office_number") == pl.when(own.is_null()).then(first).otherwise(own)
    return links.with_columns(primary.fill_null(False).alias(":is_primary"))


# --- types and states of orders ---------------------------------------------------------------------------------------


@FUNCTIONS.register
def named_courses(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Courses with `:id`, a name that no other has, and a key of it; the standard types have theirs already."""
    standard = inputs.context.value_maps["standard"].filter(c("what") == "order_type")
    spelt = dict(zip(standard["name"].str.to_lowercase(), standard["name"], strict=True))
    slug = c(":name").str.normalize("NFKD").str.replace_all(r"[^\x00-\x7F]", "").str.to_lowercase()
    slug = slug.str.replace_all("[^a-z0-9]+", "-").str.strip_chars("-")
    rows = rows.sort(":legacy_course_id")
    first_of: dict[str, int] = {}
    taken = set(standard["slug"])
    made: list[tuple[str, str]] = []
    suffixes = inputs.decision("course_name_clash") == "suffix"
    for number, own in rows.select(":legacy_course_id", ":name").iter_rows():
        name = own
        # What is made may be what another course is called.
        while suffixes and name.lower() in first_of:
            name = f"{name} (course {number})"
        first = first_of.setdefault(name.lower(), number)
        made.append((str(first), spelt.get(name.lower(), name)))
    named = rows.with_columns(
        pl.Series("_first", [first for first, _ in made], pl.String),
        pl.Series(":name", [name for _, name in made], pl.String),
    ).with_columns(slug.alias("_slug"))
    keys: dict[str, str] = {}
    for number, first, name, wanted in named.select(":legacy_course_id", "_first", ":name", "_slug").iter_rows():
        if first in keys:
            continue
        key = wanted or f"course-{number}"
        while key in taken and spelt.get(name.lower()) != name:
            key = f"{key}-{number}"
        taken.add(key)
        keys[first] = key
    key = c("_first").replace_strict(keys, default=None, return_dtype=pl.String)
    return named.with_columns(uuid_of("dispatch_course", c("_first")).alias(":id"), key.alias(":key"))


@FUNCTIONS.register
def types_without_course(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The standard types that no course is called as."""
    return rows.filter(c(":name").is_in(inputs.migrated["dispatch_course"][":name"].implode()).not_())


@FUNCTIONS.register
def one_order_type(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a type: of courses of one name, the first."""
    return (
        parts.sort(":legacy_course_id", nulls_last=True)
        .group_by(":id", maintain_order=True)
        .agg(c("^:.*$").exclude(":id").first())
    )


@FUNCTIONS.register
def states_of_codes(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The standard states, and a state for each other code that migrated rows use, which is a part of its own."""
    known = standard_codes(inputs.context, "order_state")["code"].cast(pl.String)
    used = inputs.mappings["used_status"].collect().filter(c("code").is_in(known.implode()).not_())
    added = rows.filter(c("code").is_null()).join(used.rename({"code": ":part"}), how="cross")
    there = rows.filter(c("code").is_not_null()).with_columns(pl.lit("").alias(":part"))
    number = pl.coalesce(pl.when(c(":part") != "").then(":part"), canonical_integer(c("code")))

    def spelt(form: str) -> pl.Expr:
        return c(form).str.replace("{code}", number, literal=True)

    return pl.concat([there, added.select(there.columns)]).with_columns(
        uuid_of("order_state", number).alias(":id"),
        number.cast(pl.Int64).alias(":legacy_state_id"),
        spelt(":text").alias(":name"),
        spelt(":slug").alias(":key"),
    )


# --- what hangs on orders, projects and messages ----------------------------------------------------------------------


def files_by_row(parts: pl.DataFrame, table: str) -> tuple[pl.DataFrame, pl.Expr]:
    """The rows of a table, each with the entries of its files as a JSON array in order of id, or NULL."""
    files = parts.filter(c("_source") == "dispatch_file").sort(":number")
    entries = files.group_by(":id").agg(c(":entry").str.join(",").alias("_files"))
    rows = parts.filter(c("_source") == table).join(entries, on=":id", how="left", maintain_order="left")
    return rows, pl.format("[{}]", c("_files"))


@FUNCTIONS.register
def orders_with_files(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The orders, and in their `metadata` whether they were deleted, and their files."""
    rows, files = files_by_row(parts, "dispatch_instruction")
    members = {"deleted": pl.when(":deleted").then(pl.lit("true")), "files": files}
    return rows.with_columns(with_members(pl.lit("{}"), members).alias(":metadata"))


@FUNCTIONS.register
def messages_with_attachments(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The messages with their files."""
    rows, files = files_by_row(parts, "dispatch_record")
    return rows.with_columns(files.fill_null("[]").alias(":attachments"))


@FUNCTIONS.register
def projects_with_files(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The projects, and in their `metadata` codes that are not listed, and files that hang on them."""
    rows, files = files_by_row(parts, "dispatch_project")
    members = {"legacy_type": c(":type_code"), "legacy_status": c(":status_code"), "files": files}
    return rows.with_columns(
        with_members(pl.lit("{}"), members).alias(":metadata"),
        c("^:_.*$").name.map(lambda name: name.removeprefix(":")),
    )


@FUNCTIONS.register
def files_of_projects(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows with what the inventory says of their file; under `project_file: reject` none is a problem."""
    found = inputs.mappings["project_file_inventory"].select("path", c("size", "sha256").name.prefix("_")).collect()
    path = uuid_value(c("uid")).cast(pl.Binary).bin.encode("hex")
    rows = rows.with_columns(path.alias("_path")).join(
        found, left_on="_path", right_on="path", how="left", maintain_order="left"
    )
    if inputs.decision("project_file") == "keep_row":
        return rows
    is_absent = c("_path").is_not_null() & c("_sha256").is_null()
    return add_problems(rows, RowProblem(is_absent, "file_missing", "uid", "the file of this name is not there"))


@FUNCTIONS.register
def one_project_a_uid(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds the key of the file and what sending it takes; of several projects of one `uid` the first one counts."""
    names = rows.get_column("name")
    safe = [None if name is None else object_name(name.strip()) for name in names]
    rows = rows.with_columns(pl.Series("_name", safe, pl.String).fill_null("file"), NO_PROBLEMS.alias("_problems"))
    types = pl.Series("_content_type", [content_type_of(name or "", None) for name in names], pl.String)
    is_there = c("_sha256").is_not_null()
    rows = rows.with_columns(
        pl.when(is_there).then(pl.format("projects/{}/{}", ":legacy_uid", "_name")).alias(":storage_path"),
        pl.when(is_there).then("_sha256").alias(":content_hash"),
        types,
    ).with_columns(c("_path", "_size", "_content_type").name.prefix(":"))
    first = c(":legacy_project_id").min().over(":legacy_uid")
    rows = counted(rows, "no_project_file", ~is_there).with_columns((c(":legacy_project_id") == first).alias("_counts"))
    lost = RowProblem(~c("_counts"), "duplicate_key", "uid", "a project of a lower id has it too; it counts")
    return add_problems(rows, lost)


# --- workflow ---------------------------------------------------------------------------------------------------------


@FUNCTIONS.telling("from_state_id", "duration_minutes")
def history_of_orders(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The states that are on and have a time, each with the one before it and the whole minutes since."""
    rows = rows.filter(":is_active", c(":created_at").is_not_null()).sort(":created_at", ":number")
    since = c(":created_at") - c(":created_at").shift().over(":order_id")
    own, before = ("instruction_id", "changed_at"), c("_row").shift().over(":order_id")
    return rows.with_columns(
        c(":to_state_id").shift().over(":order_id").alias(":from_state_id"),
        since.dt.total_minutes().alias(":duration_minutes"),
        *inputs.told(
            from_state_id=made_of(cells(*own, cell("status", "dispatch_state", before))),
            duration_minutes=made_of(cells(*own, cell("changed_at", "dispatch_state", before))),
        ),
    )


def template_of(inputs: FlowInputs) -> pl.Expr:
    """The template that a row goes to."""
    if inputs.decision("template_grouping") == "one_per_row":
        return uuid_of("dispatch_template", c(":number").cast(pl.String))
    return uuid_of("workflow_template", c(":order_type_id").fill_null("none"))


@FUNCTIONS.register
def template_of_rows(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `:id`, the template that a row goes to, which under `per_course` is called as its order type."""
    if inputs.decision("template_grouping") == "per_course":
        names = inputs.mappings["course"].select("target_id", c("name").alias("_of_type")).unique("target_id").collect()
        rows = rows.join(names, left_on=":order_type_id", right_on="target_id", how="left", maintain_order="left")
        rows = rows.with_columns(c("_of_type").fill_null("General").alias(":name"))
    return rows.with_columns(template_of(inputs).alias(":id"))


@FUNCTIONS.register
def one_template(parts: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a template: the first of its rows, predefined where all are."""
    rows = parts.sort(":number").group_by(":id", maintain_order=True)
    return rows.agg(c("^:.*$").exclude(":id", ":is_predefined").first(), c(":is_predefined").all())


@FUNCTIONS.register
def tasks_of_templates(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The tasks in their order within their template."""
    rows = rows.sort(":number").with_columns(template_of(inputs).alias(":workflow_template_id"))
    return rows.with_columns(pl.int_range(1, pl.len() + 1).over(":workflow_template_id").alias(":task_order"))
