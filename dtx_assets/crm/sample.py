"""A sample of NextCRM's documents of any size, as mongodump writes a database; same seed, same bytes.

Values are what the columns they go to hold, ids name documents that are there, and both sides of a junction agree but
for a few pairs. Documents that break what the contract says, one by one, stand in `ugly_documents.yaml`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.json_util import JSONMode, JSONOptions, loads
from bson.objectid import ObjectId
from ruamel.yaml import YAML

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.mapping.model import ColumnMapping, Members
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.system.system import System

Document = dict[str, Any]
UGLY = Path(__file__).with_name("ugly_documents.yaml")
EXTENDED = JSONOptions(json_mode=JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS, tz_aware=True)
FIRST = datetime(2019, 3, 1, 8, tzinfo=UTC)
WORDS = ("Acme", "Harbour", "Nordic", "Velvet", "Copper", "Meadow", "Quartz", "Lumen", "Orchard", "Summit")
MISSING, NULL, ONE_SIDED = 0.2, 0.1, 0.02
"""In which share of the documents a field that may be empty is missing, or null, and a pair is named by one side."""
FEW = ("crm_Industry_Type", "crm_Opportunities_Sales_Stages", "crm_Opportunities_Type", "Documents_Types")
FEWER = ("invoice_States", "system_Modules_Enabled", "modulStatus", "systemServices", "gpt_models", "MyAccount")


def size_of(collection: str, rows: int) -> int:
    """Sound documents of a collection."""
    if collection in (*FEW, *FEWER):
        return 8 if collection in FEW else 3
    return max(5, rows // 20) if collection in ("Users", "crm_campaigns", "Employees", "Boards") else max(5, rows)


def noise(*names: object) -> int:
    """An evenly spread whole number below 2⁶⁴, the same for the same names."""
    return int.from_bytes(blake2b("/".join(map(str, names)).encode(), digest_size=8).digest(), "big")


def object_id(seed: int, collection: str, position: int) -> ObjectId:
    """As the server makes them: the time in the first four bytes."""
    seconds = int((FIRST + timedelta(hours=3 * position)).timestamp())
    return ObjectId(seconds.to_bytes(4, "big") + noise(seed, collection, position).to_bytes(8, "big"))


class Sample:
    """The documents of all collections; `rows` is how many the larger ones have."""

    def __init__(self, system: System, rows: int, seed: int) -> None:
        self.system, self.rows, self.seed = system, rows, seed
        self.junctions: dict[str, dict[str, dict[int, list[int]]]] = {}
        for target in system.targets:
            sides = [
                (table, source.members)
                for table, source in system.mappings.for_target(target.model).sources.items()
                if source.members
            ]
            if sides:
                self._join(*sides)

    def _join(self, *sides: tuple[str, Members]) -> None:
        """Which documents of both sides of a junction name each other, by the collection and its field."""
        (first, spec), *others = sides
        there: dict[int, list[int]] = {}
        back: dict[int, list[int]] = {}
        count = size_of(spec.names, self.rows)
        for position in range(size_of(first, self.rows)):
            start, length = noise(self.seed, first, spec.field, position) % count, position % 4
            there[position] = [(start + step) % count for step in range(min(length, count))]
            for other in there[position]:
                if noise(self.seed, first, position, other) % 1000 >= 1000 * ONE_SIDED:
                    back.setdefault(other, []).append(position)
        self.junctions.setdefault(first, {})[spec.field] = there
        for second, member in others:
            self.junctions.setdefault(second, {})[member.field] = back

    def documents(self, collection: str) -> Iterator[Document]:
        for position in range(size_of(collection, self.rows)):
            yield self.document(collection, position)

    def document(self, collection: str, position: int) -> Document:
        """One document, its fields in the order in which they are declared."""
        target = self.system.target(collection)
        made = self.system.mappings.for_target(collection).sources[collection].columns
        columns = {entry.from_[0]: (entry, target.column(name)) for name, entry in made.items()}
        document: Document = {}
        for field in self.system.legacy_tables[collection].columns:
            if field in self.junctions.get(collection, {}):
                names = self._named_by(collection, field)
                named = self.junctions[collection][field].get(position, [])
                document[field] = [object_id(self.seed, names, each) for each in named]
                continue
            entry, column = columns[field]
            chance = noise(self.seed, collection, field, position, "empty") % 1000 / 1000
            if column.nullable and chance < MISSING + NULL:
                if chance < NULL:
                    document[field] = None
                continue
            document[field] = self._value(collection, field, position, entry, column)
        return document

    def _named_by(self, collection: str, field: str) -> str:
        """The collection that the members of an array are of."""
        entries = (mapping.sources.get(collection) for mapping in self.system.mappings.targets.values())
        return next(each.members.names for each in entries if each and each.members and each.members.field == field)

    def _value(self, collection: str, field: str, position: int, entry: ColumnMapping, column: TargetColumn) -> Any:
        number, kind = noise(self.seed, collection, field, position), column.kind
        if field == "_id":
            return object_id(self.seed, collection, position)
        if entry.crosswalk:
            count = size_of(entry.crosswalk, self.rows)
            ids = [object_id(self.seed, entry.crosswalk, (number + step) % count) for step in range(2)]
            return ids if kind.is_array else ids[0]
        if column.allowed:
            return column.allowed[number % len(column.allowed)]
        if kind.is_array:
            return [WORDS[number % 10].lower(), WORDS[number // 10 % 10].lower()][: number % 3]
        makers: Mapping[str, Callable[[], Any]] = {
            "integer": lambda: 0 if field == "__v" else number % 50_000,
            "boolean": lambda: bool(number % 2),
            "timestamp without time zone": lambda: FIRST + timedelta(hours=3 * position, milliseconds=number % 10**7),
            "jsonb": lambda: {
                "items": [{"title": WORDS[number % 10], "count": number % 7}],
                "total": number % 1000 / 4,
            },
        }
        return makers.get(kind.name, lambda: text_of(collection, field, position, number))()


def text_of(collection: str, field: str, position: int, number: int) -> str:
    if "email" in field:
        return f"{collection.lower()}{position}@example.com"
    if "phone" in field or "fax" in field:
        return f"+420 600 {number % 1_000_000:06d}"
    return f"{WORDS[number % 10]} {field} {position}"


def ugly_documents(sample: Sample) -> Iterator[tuple[str, bytes]]:
    """What `ugly_documents.yaml` lists: a sound document of a collection with some fields as it says, or without."""
    for number, entry in enumerate(YAML(typ="safe").load(UGLY)):
        collection = entry["collection"]
        document = sample.document(collection, entry.get("like", size_of(collection, sample.rows) + number))
        for field in sample.junctions.get(collection, {}):
            document[field] = []
        if "email" in document:
            document["email"] = f"ugly{number}@example.com"
        document |= loads(json.dumps(entry.get("with", {})), json_options=EXTENDED)
        for field in entry.get("without", []):
            document.pop(field, None)
        data = bson.encode(document)
        if damaged := entry.get("damaged"):
            data = data.replace(damaged.encode(), b"\xff" * len(damaged))
        yield from ((collection, data) for _ in range(entry.get("times", 1)))


def write_sample(
    directory: Path, rows: int, seed: int, *, ugly: bool = True, ugly_share: float = 0.0, **_: object
) -> dict[str, int]:
    """Writes `<collection>.bson` of all collections; gives how many documents of each.

    `ugly` adds the ugly documents once; `ugly_share` puts an ugly one behind that share of the others.
    """
    from dtx_assets.crm.decided_system import SYSTEM

    directory.mkdir(parents=True, exist_ok=True)
    if there := sorted(path.name for path in directory.glob("*.bson")):
        raise ConfigurationError(
            f"the directory already has {there[0]}",
            where=str(directory),
            remedy="name an empty directory; a sample never takes the place of an export",
        )
    sample = Sample(SYSTEM, rows, seed)
    spoilt: dict[str, list[bytes]] = {}
    for collection, data in ugly_documents(sample) if ugly or ugly_share else ():
        spoilt.setdefault(collection, []).append(data)
    written = {}
    for collection in SYSTEM.legacy_tables:
        written[collection] = 0
        listed = spoilt.get(collection, [])
        with (directory / f"{collection}.bson").open("wb") as file:
            for position, document in enumerate(sample.documents(collection)):
                file.write(bson.encode(document))
                written[collection] += 1
                if listed and noise(seed, collection, position, "spoilt") % 10_000 < 10_000 * ugly_share:
                    file.write(_under_another_id(listed[position % len(listed)], seed, position))
                    written[collection] += 1
            for data in listed if ugly else ():
                file.write(data)
                written[collection] += 1
    return written


def _under_another_id(data: bytes, seed: int, position: int) -> bytes:
    """An ugly document again: with an id of its own, where it has one that can be replaced."""
    try:
        document: Document = bson.decode(data, CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS))
    except bson.errors.BSONError:
        return data
    if isinstance(document.get("_id"), ObjectId):
        document["_id"] = object_id(seed, "ugly", position)
    return bson.encode(document)
