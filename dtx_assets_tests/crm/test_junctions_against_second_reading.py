"""Ugly arrays become the pairs, entries and counts that the second reading says, in the small system `clubs`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dtx_assets.machinery.sources import open_source
from dtx_assets_tests.crm.compare import brief, differences_of_lists
from dtx_assets_tests.crm.second_reading import Account, Inputs, Rejected, Result, migrate
from dtx_assets_tests.crm.second_reading_bson import Value
from dtx_assets_tests.crm.second_reading_facts import Facts, Field
from dtx_assets_tests.crm.ugly_forms import write_dump
from dtx_assets_tests.crm.ugly_values import EVERY, IDS, NOTHING, array, encoded, texts
from dtx_assets_tests.machinery.clubs import Clubs

SIDES = {"people": ("clubs", "club"), "club": ("members", "people")}


def field(collection: str, name: str, rule: str, column: str = "", **more: Any) -> Field:
    given = {"references": "", "implied_reference": "", "labels": (), "junction": "", "side": 0, "own_column": ""}
    return Field(collection, name, rule, column or name, rule, nullable=rule == "text", default="", **(given | more))


def facts() -> Facts:
    fields = [field(each, name, rule) for each in SIDES for name, rule in (("_id", "id"), ("name", "text"))]
    junction = {"junction": "Membership"}
    first = {"references": "club", "side": 1, "own_column": "person_id"}
    second = {"references": "people", "side": 2, "own_column": "club_id"}
    fields.append(field("people", "clubs", "junction", "club_id", **junction, **first))
    fields.append(field("club", "members", "junction", "person_id", **junction, **second))
    return Facts(fields)


def documents(seed: int) -> dict[str, list[bytes]]:
    random = Random(seed)
    ids = {name: [f"{random.getrandbits(96):024x}" for _ in range(40)] for name in SIDES}

    def member(of: str) -> Value:
        hex_id = random.choice(ids[of])
        text = Value("string", random.choice((hex_id, f" {hex_id.upper()}")))
        there = Value("objectId", hex_id)
        return random.choices(
            (there, text, random.choice(NOTHING), random.choice(IDS), random.choice(EVERY)), (20, 3, 2, 1, 1)
        )[0]

    def value(of: str) -> Value:
        members = [member(of) for _ in range(random.randrange(6))]
        members += random.choices(members, k=1) if members and random.random() < 0.2 else []
        ways = (
            array(*members),
            member(of),
            random.choice(EVERY),
            random.choice(NOTHING),
            array(*random.choices(NOTHING, k=2)),
        )
        return random.choices(ways, (20, 2, 2, 1, 1))[0]

    made: dict[str, list[bytes]] = {}
    for name, (arrays, of) in SIDES.items():
        made[name] = []
        for hex_id in ids[name]:
            identifier = random.choices(
                (Value("objectId", hex_id), Value("string", hex_id.upper()), Value("int", 5)), (20, 2, 1)
            )[0]
            named = random.choices(texts("a name", "\0"), (9, 1))[0]
            pairs = [("_id", identifier), ("name", named), (arrays, value(of))]
            if random.random() < 0.1:
                pairs.pop()
            raw = encoded(pairs)
            if random.random() < 0.05:
                raw = raw.replace(b"\x02name\0", b"\x77name\0")
            made[name].append(raw)
            if random.random() < 0.1:
                other = encoded([*pairs, ("more", Value("int", random.randrange(3)))])
                made[name] += random.choices((raw, other), k=random.randint(1, 2))
    return made


def run(clubs: Clubs, made: Mapping[str, Sequence[bytes]], directory: Path) -> None:
    with open_source(str(write_dump(directory, made))) as source:
        for name in SIDES:
            source.extract(clubs.system.legacy_tables[name], clubs.lake, ("clubs", "legacy", name), "landed")
    clubs.load("first")


def shown(books: Account) -> str:
    kinds = [sorted(counted.items()) for counted in (books.dropped, books.coerced)]
    return f"read {books.read}, migrated {books.migrated}, rejected {books.rejected}, {kinds}"


def told(clubs: Clubs, expected: Result) -> list[Any]:
    wanted = [each for each in expected.rejected if each.target == "Membership"]
    rejected = [
        Rejected(table, key, "Membership", tuple(reasons), partial)
        for table, key, reasons, partial in clubs.sql(
            "SELECT source_table, source_key, reasons, partial FROM migration.rejected"
            " WHERE target_table = 'Membership'"
        )
    ]
    books = {
        table: Account(read, migrated, number, Counter(dropped), Counter(coerced))
        for table, read, migrated, number, dropped, coerced in clubs.sql(
            "SELECT source_table, read, migrated, rejected, dropped, coerced FROM migration.accounting"
            " WHERE target_table = 'Membership'"
        )
    }
    mapped = [
        (table, key, part, target_id.replace(" ", ""))
        for table, key, part, target_id in clubs.sql(
            "SELECT source_table, source_key, part, target_id FROM migration.mapping WHERE target_table = 'Membership'"
        )
    ]
    entries = [
        (each.source_table, each.source_key, each.part, '["{}","{}"]'.format(*each.target_id))
        for each in expected.mapping
        if each.target_table == "Membership"
    ]
    return [
        *differences_of_lists("pair", clubs.pairs(), list(expected.pairs["Membership"])),
        *differences_of_lists("rejected", rejected, wanted),
        *differences_of_lists("mapping", mapped, entries),
        *differences_of_lists(
            "accounting",
            (f"{name}: {shown(account)}" for name, account in sorted(books.items())),
            (f"{name}: {shown(expected.accounting[name, 'Membership'])}" for name in sorted(SIDES)),
        ),
    ]


@pytest.mark.parametrize("seed", range(1, 5))
def test_ugly_arrays(tmp_path, database_url, seed):
    clubs = Clubs(tmp_path / "clubs", database_url, batch_rows=7 if seed % 2 else 1_000).make_target()
    made = documents(seed)
    run(clubs, made, tmp_path / "dump")
    found = told(clubs, migrate(Inputs(made, facts=facts())))
    assert found == [], brief(found, examples=8)
