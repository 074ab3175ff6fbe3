"""What a run of CRM left in PostgreSQL against what the second reading says: rows, mapping, rejected, accounting.

As a command, for whoever works on the system (`dump` or `thorough` documents, any form, any decisions):

    python -m dtx_assets_tests.crm.compare write DIRECTORY --seed 3 --form archive
    CRM_LEGACY_URL=DIRECTORY/… CRM_TARGET_URL=… CRM_DECISIONS=DIRECTORY/decisions.yaml dtx run crm
    python -m dtx_assets_tests.crm.compare compare URL --seed 3
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from dtx_assets_tests.crm.live_facts import live_facts
from dtx_assets_tests.crm.second_reading import Account, Inputs, Mapped, Rejected, Result, Row, migrate
from dtx_assets_tests.crm.second_reading_facts import FACTS, Facts, Field
from dtx_assets_tests.crm.second_reading_values import Digits
from dtx_assets_tests.crm.ugly import decisions, dump, thorough
from dtx_assets_tests.crm.ugly_forms import write_archive, write_dump, write_export
from dtx_assets_tests.differences import Difference, brief

IDS = ("id", "uuid", "reference")


@dataclass
class Found:
    """What the database holds; ids as text, dates as milliseconds, JSON as text."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    pairs: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    mapping: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    accounting: dict[tuple[str, str], Account] = field(default_factory=dict)
    extra: list[tuple[str, str, Any]] = field(default_factory=list)


def found_in(url: str, facts: Facts = FACTS) -> Found:
    found = Found()
    with psycopg.connect(url, row_factory=dict_row) as connection:
        for name in facts.collections:
            listed = sql.SQL(", ").join(_read(column) for column in facts.columns[name])
            statement = sql.SQL("SELECT {} FROM {}").format(listed, sql.Identifier(name))
            found.rows[name] = {row["id"]: row for row in connection.execute(statement)}
        for name, (first, *_) in facts.junctions.items():
            columns = [
                sql.SQL("{}::text AS ").format(sql.Identifier(each)) for each in (first.own_column, first.column)
            ]
            statement = sql.SQL("SELECT {} own, {} other FROM {}").format(*columns, sql.Identifier(name))
            found.pairs[name] = {(row["own"], row["other"]) for row in connection.execute(statement)}
        _read_books(connection, found)
    return found


def _read(column: Field) -> sql.Composed:
    name = sql.Identifier(column.column)
    match column.rule:
        case "timestamp":
            return sql.SQL("(extract(epoch FROM {}) * 1000)::bigint AS {}").format(name, name)
        case "array_text" | "array_uuid":
            return sql.SQL("{}::text[] AS {}").format(name, name)
        case "integer" | "boolean":
            return sql.Composed([name])
    return sql.SQL("{}::text AS {}").format(name, name)


def _read_books(connection: psycopg.Connection[dict[str, Any]], found: Found) -> None:
    system = {"system": "crm"}
    mapped = (
        "SELECT source_table, source_key, target_table, part, target_id FROM migration.mapping"
        " WHERE system = %(system)s"
    )
    found.mapping = [tuple(row.values()) for row in connection.execute(mapped, system)]
    rejected = "SELECT * FROM migration.rejected WHERE system = %(system)s"
    for row in connection.execute(rejected, system):
        key = (row["source_table"], row["source_key"], row["target_table"])
        found.rejected.append(Rejected(*key, tuple(row["reasons"]), row["partial"]))
    # Only the latest run of each flow says how it stands.
    accounting = (
        "SELECT DISTINCT ON (source_table, target_table) accounting.* FROM migration.accounting"
        " JOIN migration.run USING (run_id) WHERE accounting.system = %(system)s"
        " ORDER BY source_table, target_table, started_at DESC"
    )
    for row in connection.execute(accounting, system):
        counts = (row["read"], row["migrated"], row["rejected"])
        books = Account(*counts, Counter(row["dropped"]), Counter(row["coerced"]))
        found.accounting[row["source_table"], row["target_table"]] = books
    if connection.execute("SELECT to_regclass('migration.extra') AS there").fetchone() != {"there": None}:
        extra = "SELECT source_table, source_key, extra FROM migration.extra WHERE system = %(system)s"
        found.extra = [tuple(row.values()) for row in connection.execute(extra, system)]


# --- comparing --------------------------------------------------------------------------------------------------------


def differences(
    found: Found, expected: Result, *, others: Iterable[str] = (), facts: Facts = FACTS
) -> list[Difference]:
    """What the two do not agree about. `others`: ids of rows that were in the target before."""
    ids = _made_up_ids(found)
    told = list(_of_rows(found, expected, ids, frozenset(others), facts))
    for name, pairs in expected.pairs.items():
        wanted = {(_real(own, ids), _real(other, ids)) for own, other in pairs}
        told += differences_of_lists(f"{name} pair", found.pairs[name], wanted)
    told += differences_of_lists(
        "mapping", map(_mapped, found.mapping), (_as_found(each, ids) for each in expected.mapping)
    )
    told += differences_of_lists("rejected", found.rejected, expected.rejected)
    told += differences_of_lists("extra", map(_texts, found.extra), map(_texts, expected.extra))
    for flow in sorted({*found.accounting, *expected.accounting}):
        is_counted, should_be = found.accounting.get(flow), expected.accounting.get(flow)
        if is_counted != should_be:
            told.append(Difference("accounting", f"{' → '.join(flow)}: {is_counted} instead of {should_be}"))
    return told


def _made_up_ids(found: Found) -> dict[str, str]:
    """The second reading's name of a random id → the id, by what the mapping says."""
    return {f"{table}:{key}": target_id for table, key, target, _, target_id in found.mapping if table == target}


def _real(name: Any, ids: Mapping[str, str]) -> Any:
    return [_real(each, ids) for each in name] if isinstance(name, list) else ids.get(name, name)


def _mapped(entry: Sequence[str]) -> tuple[str, ...]:
    table, key, target, part, target_id = entry
    if table != target:
        return table, key, target, part, _compact(target_id)
    return table, key, target, "", target_id  # what the part of an only row is called is not the contract's


def _compact(text: str) -> str:
    """A JSON array however it is spaced; what is none as it stands."""
    try:
        return json.dumps(json.loads(text))
    except json.JSONDecodeError:
        return text


def _as_found(entry: Mapped, ids: Mapping[str, str]) -> tuple[str, ...]:
    wanted = entry.target_id
    target_id = _real(wanted, ids) if isinstance(wanted, str) else json.dumps([_real(each, ids) for each in wanted])
    return entry.source_table, entry.source_key, entry.target_table, entry.part, target_id


def _texts(entry: Sequence[Any]) -> tuple[str, ...]:
    return tuple(each if isinstance(each, str) else json.dumps(each, sort_keys=True) for each in entry)


def differences_of_lists(where: str, found: Iterable[Any], expected: Iterable[Any]) -> Iterable[Difference]:
    these, those = Counter(found), Counter(expected)
    for each in sorted((these - those).elements()):
        yield Difference(f"{where} too much", str(each))
    for each in sorted((those - these).elements()):
        yield Difference(f"{where} missing", str(each))


def _of_rows(
    found: Found, expected: Result, ids: Mapping[str, str], others: frozenset[str], facts: Facts
) -> Iterable[Difference]:
    for name in facts.collections:
        there = {key: row for key, row in found.rows[name].items() if key not in others}
        keys = {target_id: key for table, key, target, _, target_id in found.mapping if table == target == name}
        wanted = {_real(row["id"], ids): (key, row) for key, row in expected.rows[name].items()}
        for target_id in sorted(there.keys() - wanted.keys()):
            yield Difference(f"{name} row too much", keys.get(target_id, f"of no document: {target_id}"))
        for target_id, (key, row) in wanted.items():
            if target_id not in there:
                yield Difference(f"{name} row missing", key)
                continue
            for column in facts.columns[name]:
                value, should_be = there[target_id][column.column], row[column.column]
                if column.rule in (*IDS, "array_uuid"):
                    should_be = _real(should_be, ids)
                same = is_same_json(value, should_be) if column.rule == "jsonb" else value == should_be
                if not same:
                    yield Difference(f"{name}.{column.column}", f"{key}: {value!r} instead of {should_be!r}")


def is_same_json(text: str | None, expected: Any) -> bool:
    if text is None or expected is None:
        return text is expected
    return _is_same(json.loads(text, parse_float=Decimal, parse_int=Decimal), expected)


def _is_same(found: Any, expected: Any) -> bool:
    match expected:
        case dict():
            return (
                isinstance(found, dict)
                and found.keys() == expected.keys()
                and all(_is_same(found[name], member) for name, member in expected.items())
            )
        case list():
            return (
                isinstance(found, list)
                and len(found) == len(expected)
                and all(_is_same(these, those) for these, those in zip(found, expected, strict=True))
            )
        case Digits():  # "Decimal128 with its digits"; a zero has no sign in PostgreSQL
            return isinstance(found, Decimal) and str(found).lstrip("-") == str(Decimal(expected)).lstrip("-")
        case bool() | None | str():
            return type(found) is type(expected) and found == expected
    return isinstance(found, Decimal) and found == Decimal(repr(expected))


# --- the command ------------------------------------------------------------------------------------------------------


def inputs_of(seed: int | None, chosen: Mapping[str, str] | None, *, as_json: bool = False) -> Inputs:
    """Seed None: the thorough documents. JSON has no documents that cannot be decoded."""
    made = thorough() if seed is None else dump(seed)
    collections = (made.decodable() if as_json else made).collections
    given = decisions(seed or 0) if chosen is None else chosen
    return Inputs(collections, given)


def write_form(directory: Path, form: str, collections: Mapping[str, Sequence[bytes]]) -> Path:
    """The documents in one of the forms; what CRM_LEGACY_URL should name."""
    name, _, style = form.partition("-")
    if name == "archive":
        return write_archive(directory / "dump.archive", collections, gz=style == "gz")
    if name == "json":
        return write_export(directory / form, collections, style=style or "canonical")
    return write_dump(directory / form, collections, gz=style == "gz")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("place", help="the directory to write into, or the URL of the target database")
    parser.add_argument("--seed", type=int, help="without one: every ugly value in every kind of column")
    parser.add_argument("--form", default="dump", help="dump, dump-gz, archive, archive-gz, json-STYLE")
    parser.add_argument("--decisions", default=None, help="JSON of decision → option; {} is the defaults")
    parser.add_argument("--examples", type=int, default=3)
    given = parser.parse_args(arguments)
    chosen = None if given.decisions is None else json.loads(given.decisions)
    inputs = inputs_of(given.seed, chosen, as_json=given.form.startswith("json"))
    if given.what == "write":
        place = write_form(Path(given.place), given.form, inputs.collections)
        (Path(given.place) / "decisions.yaml").write_text(json.dumps(dict(inputs.decisions)))
        sys.stdout.write(f"{place}\n")
        return 0
    told = differences(found_in(given.place), migrate(replace(inputs, facts=live_facts(given.place))))
    sys.stdout.write(brief(told, examples=given.examples) + f"\n{len(told)} differences\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
