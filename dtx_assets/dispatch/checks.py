"""What people should see of Dispatch beside what any declaration calls for; the checks stand in `checks.csv`."""

from contextlib import ExitStack
from pathlib import Path

import polars as pl
from polars import col as c

from dtx_assets.machinery.checks.own import Checks, Find, Look
from dtx_assets.machinery.checks.spec import CheckOutcome, found
from dtx_assets.machinery.load.phase_checks import legacy_ids_lost
from dtx_assets.machinery.run.queries import asked_of_both
from dtx_assets.machinery.sources.others import rows_of_others
from dtx_assets.machinery.sources.untouched import written_by_runs

CHECKS = Checks()
LINES = Path(__file__).with_name("checks.csv")
HASH = r"^(?:pbkdf2_|argon2|bcrypt|scrypt|md5\$|sha1\$)"
FILES = ("orders", "projects", "messages")
WHOLE = (
    "target/instruction_states",
    "target/order_state_history",
    "target/workflow_templates",
    "target/workflow_tasks",
)
"""Phase 4, which waits for the others."""
NEEDED = {
    "accounting": ("prepared/orders", "prepared/projects", "legacy/dispatch_file"),
    **dict.fromkeys(("legacy_id_preservation", "legacy_untouched", "query_baseline"), WHOLE),
}


def asked(check: str, show: list[str], look: Look) -> Find | CheckOutcome:
    now = look.now.date().isoformat()
    points_at, email = c("detail").str.contains("content_type_id|object_id"), c("email").str.to_lowercase()
    if check == "tables_not_in_the_plan":
        others = rows_of_others(look.settings.legacy_url, [*look.system.legacy_tables])
        return found(len(others), tables=others)
    if check == "accounting":
        entries = [entry for model in FILES for entry in look.manifest("prepared", model).metadata["accounting"]]
        counted = sum(entry["read"] for entry in entries if entry["source_table"] == "dispatch_file")
        return found(abs(counted - look.manifest("legacy", "dispatch_file").tables["rows"].rows), counted=counted)
    if check == "guessed_primary_office":
        [entry] = look.manifest("prepared", look.asset[1]).metadata["accounting"]
        return found(entry["coerced"].get(check, 0))
    if check == "legacy_id_preservation":
        with ExitStack() as held:
            connection, *beside = [held.enter_context(look.target()) for _ in range(look.settings.load_connections)]
            lost = legacy_ids_lost(connection, look.system, beside)
        return found(sum(lost.values()), **lost)
    if check == "legacy_untouched":
        tables = (table for name, table in look.system.legacy_tables.items() if name not in look.system.sources)
        read = {table: look.manifest("legacy", table.name) for table in tables}
        touched = written_by_runs(look.settings.legacy_url, look.system.name, read)
        return found(len(touched), **touched)
    if check == "query_baseline":
        return asked_of_both(look)
    texts = look.manifest(*look.asset).metadata["columns"] if look.asset[0] == "legacy" else ()
    when = {
        "unlisted_groups": lambda: c("name").is_not_null() & ~look.lists("group_profile_type", c("name")),
        "no_password_hashes": lambda: pl.any_horizontal(c(name).str.contains(HASH).fill_null(False) for name in texts),
        "sex_codes": lambda: c("sex").is_not_null(),
        "shared_emails": lambda: email.is_not_null() & email.is_duplicated(),
        "birthdates": lambda: (c("date_of_birth") < "1900-01-01") | (c("date_of_birth") > now),
        "several_roles": lambda: c("metadata").str.contains('"role":|"legacy_user_id":'),
        "several_patients": lambda: c("metadata").str.contains('"legacy_patient_ids":', literal=True),
        "invalid_emails": lambda: c("reasons").list.contains("invalid_email"),
        "missing_files": lambda: c("storage_path").is_null(),
        "file_sizes": lambda: c("_size") != c("file_size"),
        "unknown_codes": lambda: c("metadata").str.contains('"legacy_type":|"legacy_status":'),
        "generic_keys": lambda: points_at,
        "orphan_parents": lambda: points_at & c("reasons").list.contains("orphan_reference"),
    }[check]()
    values = {"sex_codes": {"codes": c("sex")}, "orphan_parents": {"they point at": c("detail")}}
    return Find(when, show=show, values=values.get(check, {}))


for _name, _severity, _asset, _holds_when, _show in pl.read_csv(LINES).fill_null("").iter_rows():
    CHECKS.on(
        _asset,
        _severity,
        blocking=_severity == "ERROR" and not _asset.startswith("target/"),
        needs=NEEDED.get(_name, ()),
        name=_name,
        description=_holds_when,
    )(lambda look, name=_name, show=_show: asked(name, show.split(), look))
