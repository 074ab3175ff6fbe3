"""Runs the flows of DTX on tables given as dicts, through the real parts: CSV files, lake, PostgreSQL, mapping assets.

What comes out has the form of the oracle's results, so that the two can be compared. What should come out is not here.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psycopg

from dtx_assets.dtx.system import DECISIONS_FILE, SYSTEM, load_other_areas
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.mapping.decisions import Decisions, load_decisions
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.prepare.part import file_of, lying_in, read_files
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.dtx.oracle import Account, Inputs, RawRow, Rejected, Result, Value, identity, read_value_maps

CUTOVER_AT = datetime(2026, 11, 21, tzinfo=UTC)
Dialect = Literal["csv", "database"]

DECISIONS = load_decisions(DECISIONS_FILE)
VALUE_MAPS = read_value_maps(SYSTEM.mappings_dir)
OF_LEGACY_TABLES = {
    asset.name
    for asset in SYSTEM.mapping_assets
    if any(layer == "legacy" and name in SYSTEM.legacy_tables for layer, name in asset.upstream)
}
"""The mapping assets that change with the legacy tables."""


def decided(**decisions: str) -> Decisions:
    """The decisions of the plan with other choices."""
    return replace(DECISIONS, chosen={**DECISIONS.chosen, **decisions})


def system_under(**decisions: str) -> System:
    return SYSTEM.under(decided(**decisions))


@dataclass(frozen=True)
class World:
    """What other areas handed over: crosswalks by name and rows of their target tables by table name."""

    crosswalks: Mapping[str, Sequence[RawRow]]
    other_areas: Mapping[str, Sequence[RawRow]]


def rows(columns: str, *values: Sequence[str | int | None]) -> list[RawRow]:
    """Rows of text: `rows("id name", (1, "W-9"))`."""
    return [
        {name: None if value is None else str(value) for name, value in zip(columns.split(), row, strict=True)}
        for row in values
    ]


MANY = range(20, 60)
"""Customers with an account each, for tests with a row for each of many values: customer 20 is account 1020."""

SMALL_WORLD = World(
    crosswalks={
        # 3 and 4 are one account; the target does not have account 999; customer 7 is in no crosswalk.
        # 2 and 3 are in one directory; the target does not have directory 899; 4 and 6 have none.
        "crosswalk_account": rows(
            "customer_id account_id directory_id",
            *((1, 101, 801), (2, 102, 802), (3, 103, 802), (4, 103, None), (5, 999, 899), (6, None, None)),
            *((customer, 1000 + customer, None) for customer in MANY),
        ),
        "crosswalk_user": rows("user_id target_user_id", (1, 11), (2, 999)),
        # Vendor 2 is in two groups, 1 and 4 share one, 3 is in none, the target does not have the record of 5.
        # 3 and 7 are one record.
        "crosswalk_record": rows("vendor_id record_id", (1, 201), (2, 202), (3, 203), (4, 204), (5, 999), (7, 203)),
        # 4 and 5 are one document; the target does not have document 999; 7 is in no crosswalk.
        "crosswalk_repo_file": rows(
            "repo_file_id target_model target_id",
            *((1, "Document", 901), (2, "Certificate", 902), (3, "Document", 999)),
            *((4, " document ", 902), (5, "Document", 902), (6, "Document", None)),
        ),
        "crosswalk_requirements": rows("requirements_id coi_risk_profile_id", (1, 401), (2, 999)),
    },
    other_areas={
        "docutrax_users_user": rows("id", (11,)),
        "docutrax_hierarchy_account": rows("id", (101,), (102,), (103,), *((1000 + customer,) for customer in MANY)),
        "docutrax_hierarchy_directory": rows("id", (801,), (802,)),
        "docutrax_hierarchy_record": rows("id", (201,), (202,), (203,), (204,)),
        "docutrax_hierarchy_accountemail": rows(
            "id account_id email email_type",
            *((1, 101, "A@B.c", "reviewer"), (2, 101, "z@b.c", "primary")),
            *((3, 103, "M.N@sub.example.org", "reviewer"), (4, 103, "m.n@sub.example.org", "reviewer")),
            *((5, 103, "Z@b.C", "reviewer"), (6, 103, "Z@B.C", "reviewer")),
        ),
        "docutrax_profiles_document": rows(
            "id account_id file original_filename content_hash status needs_review",
            *((number, 101, f"documents/area4/{number}", "x.pdf", "0" * 64, "new", "false") for number in (901, 902)),
        ),
        "docutrax_profiles_requirementsgroup": rows("id", (301,), (302,), (303,)),
        "docutrax_profiles_requirementsgroupmember": rows(
            "id record_id requirements_group_id", (1, 201, 301), (2, 202, 302), (3, 202, 303), (4, 204, 301)
        ),
        "docutrax_profiles_coiriskprofile": rows("id", (401,)),
        "docutrax_profiles_documenttype": rows("id name", (501, "W-9"), (502, "Business License"), (503, " Bond ")),
        "docutrax_profiles_docrequirement": rows(
            "id requirements_group_id document_type_id is_exempted exemption_note",
            *((601, 301, 501, "false", None), (602, 301, 502, "false", None)),
            *((603, 302, 501, "false", None), (604, 303, 501, "false", None), (605, 303, 503, "false", None)),
        ),
    },
)


class Migration:
    """A lake and a target database with the rows of other areas, in which flows are run again and again."""

    def __init__(self, directory: Path, database_url: str, world: World = SMALL_WORLD) -> None:
        self.directory, self.database_url, self.world = directory, database_url, world
        self.lake = Lake(str(directory / "lake"))
        self.settings = Settings.from_environment(
            "dtx", environ={}, project_dir=directory, sample_dir=SYSTEM.sample_dir
        )
        self._numbers = count()
        self.files = SYSTEM.sample_dir / "files"
        with psycopg.connect(database_url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, write_csv(directory / "target", world.other_areas))
        self.extract(world.crosswalks, "crosswalk")
        self.build_mappings({asset.name for asset in SYSTEM.mapping_assets} - OF_LEGACY_TABLES)

    def extract(self, tables: Mapping[str, Sequence[RawRow]], layer: str = "legacy", dialect: Dialect = "csv") -> None:
        directory = self.directory / f"export-{next(self._numbers)}"
        write = write_csv if dialect == "csv" else write_sqlite
        self.extract_from(write(directory, tables), tables, layer)

    def extract_from(self, url: Path | str, names: Iterable[str], layer: str = "legacy") -> None:
        """Lands tables from a directory of CSV files or a database."""
        declared = SYSTEM.crosswalk_tables if layer == "crosswalk" else SYSTEM.legacy_tables
        with open_source(str(url)) as source:
            for name in names:
                source.extract(declared[name], self.lake, (SYSTEM.name, layer, name), "extraction")

    def build_mappings(self, names: Iterable[str], **decisions: str) -> None:
        chosen = set(names)
        context = MappingContext(
            system=SYSTEM.name,
            lake=self.lake,
            run_id="mappings",
            target_url=self.database_url,
            crosswalk_tables=SYSTEM.crosswalk_tables,
            mappings=SYSTEM.mappings,
            legacy_tables=SYSTEM.legacy_tables,
            files=LegacyFiles(self.files),
            chosen={**DECISIONS.chosen, **decisions},
        )
        for asset in SYSTEM.mapping_assets:
            if asset.name in chosen:
                build_mapping_asset(asset, context)

    def inputs(
        self,
        legacy: Mapping[str, Sequence[RawRow]],
        *,
        cutover_at: datetime = CUTOVER_AT,
        timezone: str = "UTC",
        dialect: Dialect = "csv",
        **decisions: str,
    ) -> Inputs:
        """The same inputs for the oracle."""
        return Inputs(
            legacy=legacy,
            crosswalks=self.world.crosswalks,
            other_areas=self.world.other_areas,
            value_maps=VALUE_MAPS,
            decisions={**DECISIONS.chosen, **decisions},
            cutover_at=cutover_at,
            timezone=timezone,
            dialect=dialect,
            files=self.files,
        )

    def run(
        self,
        legacy: Mapping[str, Sequence[RawRow]],
        *flows: str,
        batch_rows: int = 100_000,
        cutover_at: datetime = CUTOVER_AT,
        timezone: str = "UTC",
        dialect: Dialect = "csv",
        **decisions: str,
    ) -> Result:
        """What the named flows (by default those that read the tables) make of the tables; absent ones are empty."""
        every = system_under(**decisions).flows
        chosen = [flow for flow in every if (flow.name in flows if flows else set(flow.sources) & set(legacy))]
        needed = {name: legacy.get(name, ()) for flow in chosen for name in flow.sources}
        self.extract(needed, dialect=dialect)
        return self.prepare(
            chosen, batch_rows=batch_rows, cutover_at=cutover_at, timezone=timezone, decisions=decisions
        )

    def prepare(
        self,
        flows: Iterable[Flow],
        *,
        batch_rows: int = 100_000,
        cutover_at: datetime = CUTOVER_AT,
        timezone: str = "UTC",
        decisions: Mapping[str, str] | None = None,
    ) -> Result:
        """What flows make of the tables that are landed."""
        assert not set(decisions or {}) - set(DECISIONS.chosen)
        run = RunSettings(
            run_id=f"run-{next(self._numbers)}",
            system=system_under(**(decisions or {})),
            settings=replace(self.settings, batch_rows=batch_rows, legacy_timezone=timezone),
            decisions=decided(**(decisions or {})),
            cutover_at=cutover_at,
            lake=self.lake,
        )
        flows = list(flows)
        self.build_mappings(OF_LEGACY_TABLES & {name for flow in flows for name in flow.mappings})
        flows = list(flows)
        needed = {name for flow in flows for name in flow.mappings}
        self.build_mappings(
            asset.name
            for asset in SYSTEM.mapping_assets
            if asset.name in needed and any(name in SYSTEM.legacy_tables for _, name in asset.upstream)
        )
        result = Result()
        for flow in flows:
            for model, manifest in prepare_flow(flow, run, None).items():
                read_prepared(self.lake, SYSTEM, model, manifest, result)
        return result


def read_prepared(lake: Lake, system: System, model: str, manifest: Manifest, result: Result) -> None:
    """Adds what the prepared and rejected datasets of a model hold to `result`."""
    target = system.target(model)
    json_columns = {column.name for column in target.columns if column.type == "jsonb"}
    names = [*(["id"] if target.writes == "update" else []), *(column.name for column in target.columns)]
    by_place: dict[tuple[str, int], dict[str, Any]] = {}
    for described in manifest.metadata["parts"]:
        part, (rows, links) = described["part"], lying_in(described, *read_files(lake, manifest, file_of(described)))
        for row in rows.iter_rows(named=True):
            by_place[part, row["_row"]] = {
                name: json.loads(row[name]) if name in json_columns and row.get(name) is not None else row[name]
                for name in names
                if name in row
            }
        for link in links.iter_rows(named=True):
            assert len(set(link["parts"])) == len(link["parts"]) == len(link["rows"]) > 0, link
            result.links |= {
                (model, link["source_table"], link["source_key"], identity(model, by_place[part, row]))
                for row in link["rows"]
            }
    result.rows[model] = list(by_place.values())
    rejected = lake.scan((system.name, "rejected", model)).collect()
    result.rejected[model] = [
        Rejected(row["source_table"], row["source_key"], tuple(row["reasons"]), row["partial"])
        for row in rejected.iter_rows(named=True)
    ]
    result.details |= {
        (row["source_table"], row["source_key"]): (row["detail"], json.loads(row["row"]))
        for row in rejected.iter_rows(named=True)
    }
    for entry in manifest.metadata["accounting"]:
        assert entry["target_table"] == target.name
        result.accounting[entry["source_table"], model] = Account(
            entry["read"], entry["migrated"], entry["rejected"], Counter(entry["dropped"]), Counter(entry["coerced"])
        )


def write_csv(directory: Path, tables: Mapping[str, Sequence[RawRow]]) -> Path:
    """Writes `<table>.csv` files; None is `\\N`, text is quoted, bytes are as they are."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        columns = _columns(name, table)
        lines = [",".join(columns).encode()]
        lines += [b",".join(_field(row.get(column)) for column in columns) for row in table]
        (directory / f"{name}.csv").write_bytes(b"\n".join(lines) + b"\n")
    return directory


def write_sqlite(directory: Path, tables: Mapping[str, Sequence[RawRow]]) -> str:
    """Writes the tables into an SQLite file and gives its URL; None is NULL, anything else is as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "legacy.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, table in tables.items():
            columns = _columns(name, table)
            listed = ", ".join(f'"{column}"' for column in columns)
            places = ", ".join("?" * len(columns))
            connection.execute(f'CREATE TABLE "{name}" ({listed})')
            connection.executemany(
                f'INSERT INTO "{name}" VALUES ({places})', [[row.get(column) for column in columns] for row in table]
            )
    return f"sqlite:///{path}"


def _columns(name: str, table: Sequence[RawRow]) -> list[str]:
    if table:
        return list(table[0])
    declared = SYSTEM.legacy_tables.get(name) or SYSTEM.crosswalk_tables.get(name)
    return list(declared.columns if declared else ("id",))


def _field(value: Value) -> bytes:
    if value is None:
        return rb"\N"
    return b'"' + (value if isinstance(value, bytes) else value.encode()).replace(b'"', b'""') + b'"'


def reasons(result: Result, model: str, *, partial: bool = False) -> dict[str, list[str]]:
    """The reasons of the rejected rows by source key, or those of the partial entries."""
    return {each.source_key: list(each.reasons) for each in result.rejected[model] if each.partial == partial}


def by(rows: Iterable[Mapping[str, Any]], *names: str) -> dict[Any, Any]:
    """The last named column by the others: `by(rows, "account_id", "name")` is name by account."""
    found = {}
    for row in rows:
        *parts, value = (row[name] for name in names)
        key = parts[0] if len(parts) == 1 else tuple(parts)
        assert key not in found, f"two rows for {key}"
        found[key] = value
    return found


# --- rows to start from: right in every column, so that a test spoils just what it is about ---------------------------


Key = str | bytes | int | None


def _text(key: Key) -> Value:
    return str(key) if isinstance(key, int) else key


def notification(number: Key = 1, customer: Key = 1, kind: Value = "COI", **changes: Value) -> RawRow:
    """A notification row all of whose settings are NULL."""
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["notification"].columns)
    row |= {
        "notification_id": _text(number),
        "customer_id": _text(customer),
        "type": kind,
        "send_hold": "SEND",
        "user_id": "1",
        "create_time": "2020-02-29 12:34:56",
    }
    return row | changes


def webhook(value: Value, selector: Value = "NONCOMP", customer: Key = 1, kind: Value = "COI") -> RawRow:
    return {"customer_id": _text(customer), "type": kind, "selector": selector, "webhook": value}


def lookup(customer: Key = 1, **changes: Value) -> RawRow:
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["notification_lookup"].columns)
    return row | {"customer_id": _text(customer)} | changes


def letter(body: Value = "Hello", customer: Key = 1, **changes: Value) -> RawRow:
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["letter"].columns)
    row |= {
        "customer_id": _text(customer),
        "type": "COI",
        "selector": "NONCOMP",
        "subject": "Subject",
        "letter_body": body,
        "edit_time": "2020-02-29 12:34:56",
    }
    return row | changes


def exemption(number: Key = 1, vendor: Key = 1, **changes: Value) -> RawRow:
    """An exemption of GL without an end."""
    row: dict[str, Value] = {
        "exemption_id": _text(number),
        "vendor_id": _text(vendor),
        "item_type": "COI",
        "item_name": "GL",
        "ExemptExpDate": None,
        "ExemptReason": "Small job",
        "ExemptReviewStatus": "COMPLIANT",
        "create_user_id": "1",
        "create_time": "2020-02-29 12:34:56",
        "requirements_id": None,
        "src": None,
    }
    return row | changes


def reviewer_address(value: Value, number: Key = 1, customer: Key = 1) -> RawRow:
    return {
        "reviewer_address_id": _text(number),
        "customer_id": _text(customer),
        "email_string": value,
        "type": "",
        "level": "0",
    }


def keyword(name: Value, replacement: Value = "Tenants", customer: Key = 1) -> RawRow:
    return {"customer_id": _text(customer), "keyword": name, "replacement": replacement}


def form_field(number: Key, value: Value, name: Value = "custom_field_0", vendor: Key = 1, customer: Key = 1) -> RawRow:
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["form_field"].columns)
    return row | {
        "form_field_id": _text(number),
        "customer_id": _text(customer),
        "vendor_id": _text(vendor),
        "property_name": name,
        "value": value,
    }


def envelope(number: Key = 1, vendor_data: Value = 'a:1:{s:4:"name";s:4:"Acme";}', **changes: Value) -> RawRow:
    """A voided envelope of customer 1 and vendor 1."""
    row: dict[str, Value] = {
        "envelope_id": _text(number),
        "customer_id": "1",
        "vendor_id": "1",
        "event": "Voided",
        "vendor_data": vendor_data,
        "clicks": "3",
        "access_time": "2021-07-13 06:13:16",
        "create_time": "2020-02-29 12:34:56",
        "update_time": "2023-07-22 12:27:10",
    }
    return row | changes


def imap_upload(number: Key = 1, file: Key = 1, **changes: Value) -> RawRow:
    row: dict[str, Value] = {
        "imap_upload_id": _text(number),
        "sender": "sender@example.com",
        "filename": "certificate.pdf",
        "filesize": "1024",
        "repo_file_id": _text(file),
        "received_time": "2020-01-02 03:04:05",
    }
    return row | changes


def repo_file(number: Key = 100, **changes: Value) -> RawRow:
    """An uploaded file of customer 1 and vendor 1 that nobody linked."""
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["repo_file"].columns)
    row |= {
        "repo_file_id": _text(number),
        "customer_id": "1",
        "name": "certificate.pdf",
        "vendor_id": "1",
        "status": "SUBMITTED",
        "upload_user_id": "1",
        "intake_date": "2020-02-29 12:34:56",
        "repo_filepath": "unlinked/certificate_01.pdf",
        "type": "application/pdf",
    }
    return row | changes


def lease(vendor: Key = 1, start: Value = "01/01/2020", end: Value = "12/31/2025", **changes: Value) -> RawRow:
    """A line of vornado_feed."""
    row: dict[str, Value] = {
        "PH_ID": _text(vendor),
        "Property Code": "P154",
        "Tenant ID": "t0000001",
        "Tenant Name": "Ivory Paving LLC",
        "Lease Start": start,
        "Lease End": end,
        "Status": "Current",
    }
    return row | changes


def php(*addresses: str) -> str:
    """A PHP-serialised array of strings."""
    elements = "".join(f'i:{n};s:{len(text.encode())}:"{text}";' for n, text in enumerate(addresses))
    return f"a:{len(addresses)}:{{{elements}}}"
