"""Ugly dumps of CRM: documents of all 29 collections, sound but for a few fields of every bad kind, drawn from a seed.

What should become of them is not here. The forms in which a dump lies on disk are in `ugly_forms`.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from dtx_assets_tests.crm.second_reading_bson import NULL, Undecodable, Value, read_document
from dtx_assets_tests.crm.second_reading_facts import FACTS, OPTIONS, USERS, Field
from dtx_assets_tests.crm.ugly_values import (
    EVERY,
    IDS,
    NOTHING,
    OF_RULE,
    STRANGER,
    array,
    bottomless,
    encoded,
    nested,
    of_labels,
    texts,
)

Fields = dict[str, Value]
EXISTING = {"taken@example.org": "11111111-2222-4333-8444-555555555555"}
"""E-mail → id of the user whom the new system has already, for those who put it there."""

EMAILS = ("a@example.org", "A@example.org", "b@example.org", "taken@example.org", " a@example.org")
UNDECLARED = {
    "sessions": [[("_id", Value("string", "any")), ("at", Value("date", 0))], [("no", Value("int", 1))]],
    "fs.chunks": [
        [("_id", Value("objectId", STRANGER)), ("n", Value("int", 0)), ("data", Value("binData", (b"x", 0)))]
    ],
    "empty one": [],
}


@dataclass
class Dump:
    """Raw documents by collection, in the order in which they are read."""

    collections: dict[str, list[bytes]] = field(default_factory=dict)

    def decodable(self) -> "Dump":
        """Without what no JSON can hold."""
        return Dump({name: [raw for raw in raws if _is_decodable(raw)] for name, raws in self.collections.items()})


def _is_decodable(raw: bytes) -> bool:
    try:
        read_document(raw)
    except Undecodable:
        return False
    return True


def decisions(seed: int) -> dict[str, str]:
    """An option of each decision; a few seeds draw all."""
    random = Random(seed)
    return {key: random.choice(options) for key, options in OPTIONS.items()}


def dump(seed: int, *, documents: int = 20, ugliness: float = 0.35) -> Dump:
    """`ugliness`: the share of documents that have a bad field at least."""
    return Maker(Random(seed), documents, ugliness).dump()


def thorough() -> Dump:
    """Every ugly value in a column of every kind: one document each, sound but for that field."""
    maker = Maker(Random(0), documents=4, ugliness=0)
    made: dict[str, list[bytes]] = {}
    for name in FACTS.collections:
        sound = [maker.wholly_sound(name, number) for number in range(4)]
        made[name] = [encoded(list(fields.items())) for fields in sound]
    for column in one_of_each_kind():
        for number, value in enumerate(maker.all_bad(column)):
            fields = maker.wholly_sound(column.collection, number)
            fields |= {"_id": Value("objectId", f"{maker.random.getrandbits(96):024x}"), column.field: value}
            if column.collection == USERS and column.field != "email":
                fields["email"] = Value("string", f"{column.field}-{number}@example.org")
            made[column.collection].append(encoded(list(fields.items())))
    return Dump(made)


def one_of_each_kind() -> list[Field]:
    """Columns that differ in rule, in whether they may be NULL, in having a default or a foreign key."""
    kinds = {
        (each.rule, each.nullable, bool(each.default), bool(each.references)): each
        for each in FACTS.fields
        if each.field not in ("_id", "password")
    }
    return list(kinds.values())


class Maker:
    def __init__(self, random: Random, documents: int, ugliness: float) -> None:
        self.random, self.ugliness = random, ugliness
        self.ids = {name: [f"{random.getrandbits(96):024x}" for _ in range(documents)] for name in FACTS.collections}

    def dump(self) -> Dump:
        made = Dump({name: self.collection(name) for name in FACTS.collections})
        for name, documents in UNDECLARED.items():
            made.collections[name] = [encoded(pairs) for pairs in documents]
        return made

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def collection(self, name: str) -> list[bytes]:
        documents: list[bytes] = []
        for number, hex_id in enumerate(self.ids[name]):
            fields = self.document(name, number, hex_id)
            documents.append(self.broken(fields) if self.happens(0.04) else encoded(list(fields.items())))
            if self.happens(0.08):
                documents += self.copies(name, fields)
        if self.happens(0.5):
            self.random.shuffle(documents)
        return documents

    def document(self, name: str, number: int, hex_id: str) -> Fields:
        fields: Fields = {"_id": Value("objectId", hex_id)}
        for column in (*FACTS.columns[name], *FACTS.arrays[name]):
            if column.field != "_id":
                fields[column.field] = self.sound(column, number)
        if name == USERS and self.happens(0.4):
            fields["email"] = Value("string", self.random.choice(EMAILS))
            fields["lastLoginAt"] = self.random.choice((NULL, Value("date", 5), Value("date", 6)))
            fields["created_on"] = Value("date", self.random.choice((7, 8)))
        if self.happens(self.ugliness):
            self.spoil(name, fields)
        if self.happens(0.1):
            fields["_id"] = self.as_text(hex_id)
        elif self.happens(0.03):
            self.spoil_id(fields)
        if self.happens(0.15):
            fields |= {"undeclared": self.random.choice(EVERY), "Name": Value("int", number)}
        return fields

    def wholly_sound(self, name: str, number: int) -> Fields:
        """Without anything that is counted; it names the first documents of other collections."""
        fields: Fields = {"_id": Value("objectId", self.ids[name][number % 4])}
        for column in (*FACTS.columns[name], *FACTS.arrays[name]):
            if column.rule in ("reference", "uuid"):
                fields[column.field] = Value("objectId", self.ids[column.named][number % 4])
            elif column.rule in ("array_uuid", "junction"):
                fields[column.field] = array(*(Value("objectId", each) for each in self.ids[column.named][:2]))
            elif column.field != "_id":
                fields[column.field] = self.sound(column, number)
        return fields

    def all_bad(self, column: Field) -> list[Value]:
        if column.rule in ("junction", "array_uuid"):
            there = Value("objectId", self.ids[column.named][0])
            return [*EVERY, *(array(there, each) for each in EVERY), array(there, there, self.as_text(there.data))]
        own = of_labels(column.labels) if column.rule == "enum" else OF_RULE.get(column.rule, OF_RULE["uuid"])
        return [*own, *EVERY]

    # --- sound values -------------------------------------------------------------------------------------------------

    def sound(self, column: Field, number: int) -> Value:
        match column.rule:
            case "text":
                return Value("string", f"{column.field} {number}")
            case "integer":
                return Value("int", number)
            case "boolean":
                return Value("bool", number % 2 == 0)
            case "timestamp":
                return Value("date", 1_600_000_000_000 + number * 86_400_123)
            case "enum":
                return Value("string", column.labels[number % len(column.labels)])
            case "jsonb":
                return Value("object", (("n", Value("int", number)), ("t", array(*texts("a", "b")))))
            case "array_text":
                return array(*texts("one", "two"))
            case "array_uuid" | "junction":
                return self.members(column)
        return self.name_of(column)

    def name_of(self, column: Field) -> Value:
        """Names a document: mostly one that is there."""
        if self.happens(0.05) and column.nullable:
            return NULL
        if self.happens(0.02):
            return self.random.choice(IDS)
        hex_id = self.random.choice(self.ids[column.named])
        return self.as_text(hex_id) if self.happens(0.1) else Value("objectId", hex_id)

    def as_text(self, hex_id: str) -> Value:
        return Value("string", self.random.choice((hex_id, hex_id.upper(), f" {hex_id}", f"{hex_id.title()}\n")))

    def members(self, column: Field) -> Value:
        found = [Value("objectId", hex_id) for hex_id in self.random.sample(self.ids[column.named], 3)]
        if self.happens(0.3):
            found.append(self.random.choice(found))
        if self.happens(0.2):
            found.append(self.as_text(self.random.choice(found).data))
        if self.happens(0.15):
            found.append(self.random.choice(NOTHING))
        if self.happens(0.1):
            found.append(Value("objectId", STRANGER))
        if self.happens(0.06) and column.rule == "junction":
            found.append(self.random.choice(EVERY))
        self.random.shuffle(found)
        return array(*found)

    # --- bad ones -----------------------------------------------------------------------------------------------------

    def spoil(self, name: str, fields: Fields) -> None:
        columns = [each for each in (*FACTS.columns[name], *FACTS.arrays[name]) if each.field != "_id"]
        for _ in range(self.random.choice((1, 1, 1, 2, 4)) if columns else 0):
            rule = self.random.choice(sorted({each.rule for each in columns}))
            column = self.random.choice([each for each in columns if each.rule == rule])
            if self.happens(0.2):
                fields.pop(column.field, None)
            elif column.field == "password" and name == USERS:
                fields[column.field] = self.random.choice((NULL, *texts("", "hash")))
            else:
                fields[column.field] = self.bad(column)

    def bad(self, column: Field) -> Value:
        if column.rule == "junction" or column.rule == "array_uuid":
            there = self.random.choice(self.ids[column.named])
            one = self.random.choice((Value("objectId", there), self.as_text(there), self.random.choice(IDS)))
            anything = self.random.choice(EVERY)
            nothing = array(*(self.random.choice(NOTHING) for _ in range(self.random.randrange(3))))
            return self.random.choice((one, one, one, anything, nothing, array(one, one), array(anything, one)))
        own = of_labels(column.labels) if column.rule == "enum" else OF_RULE.get(column.rule, OF_RULE["uuid"])
        kind = self.random.random()
        return self.random.choice(own if kind < 0.5 else EVERY if kind < 0.85 else NOTHING)

    def spoil_id(self, fields: Fields) -> None:
        bad = (Value("int", 5), Value("double", 5.5), Value("bool", True), *texts("abc", "", STRANGER[:23]))
        others = (Value("object", (("a", Value("int", 1)),)), Value("date", 1), Value("binData", (b"\x01", 0)))
        if self.happens(0.3):
            del fields["_id"]
        else:
            fields["_id"] = self.random.choice((*bad, *others))

    def copies(self, name: str, fields: Fields) -> list[bytes]:
        """More documents with the id of this one: the same again, changed, with its id as text, in several orders."""
        if fields.get("_id", NULL).kind != "objectId":
            return []
        same = encoded(list(fields.items()))
        changed = encoded([*fields.items(), ("undeclared too", Value("int", self.random.randrange(3)))])
        reordered = encoded(list(reversed(fields.items())))
        as_text = encoded(list((fields | {"_id": self.as_text(fields["_id"].data)}).items()))
        return self.random.choices((same, same, changed, reordered, as_text), k=self.random.choice((1, 1, 2, 3)))

    def broken(self, fields: Fields) -> bytes:
        """Framed well, and no document."""
        pairs = list(fields.items())
        ways: Sequence[Callable[[], bytes]] = (
            lambda: encoded([*pairs, ("x", Value("string", "\u20ac\u20ac"))]).replace(
                b"\xe2\x82\xac", b"\xe2\x28\xac", 1
            ),
            lambda: _with_tail(encoded(pairs), b"\x77x\0"),
            lambda: _with_tail(encoded(pairs), b"\x02x\0\x00\x00\x00\x00"),
            lambda: _with_tail(encoded(pairs), b"\x03x\0\x04\x00\x00\x00"),
            lambda: _with_tail(encoded(pairs), b"\x03x\0\xff\xff\xff\x7f\x00"),
            lambda: encoded([*pairs, ("twice", NULL), ("twice", Value("int", 1))]),
            lambda: encoded([*pairs, ("o", Value("object", (("a", NULL), ("a", NULL))))]),
            lambda: encoded([*pairs, ("o", array(Value("object", (("a", NULL), ("b", NULL), ("a", NULL)))))]),
            lambda: encoded([*pairs, ("deep", nested(101))]),
            lambda: encoded([*pairs, ("deep", bottomless(3_000))]),
        )
        return self.random.choice(ways)()


def _with_tail(document: bytes, tail: bytes) -> bytes:
    """The document with bytes before its end that are no field, its outer length right."""
    body = document[4:-1] + tail
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def counted(dumped: Mapping[str, Sequence[bytes]]) -> int:
    return sum(map(len, dumped.values()))
