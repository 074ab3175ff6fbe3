"""The fields of many BSON documents at once, as arrays: what each is called, its type, and where its value lies.

All documents take a step at the same time, each to its next field. What is out of the ordinary is not judged here: such
a document is odd, and read by itself. What the values say is the business of `document_columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Kinds = np.ndarray[Any, np.dtype[np.uint8]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

DOUBLE, STRING, OBJECT, ARRAY, BINARY, OBJECT_ID, BOOL, DATE, NULL = 1, 2, 3, 4, 5, 7, 8, 9, 10
INT, TIMESTAMP, LONG, DECIMAL, MAX_KEY, MIN_KEY = 16, 17, 18, 19, 127, 255
FIXED = {
    DOUBLE: 8,
    OBJECT_ID: 12,
    BOOL: 1,
    DATE: 8,
    NULL: 0,
    INT: 4,
    TIMESTAMP: 8,
    LONG: 8,
    DECIMAL: 16,
    MAX_KEY: 0,
    MIN_KEY: 0,
}
"""Bytes of the value."""
SAID = {STRING: (4, 1), OBJECT: (0, 5), ARRAY: (0, 5), BINARY: (5, 0)}
"""Bytes beside those that the value's own length counts, and the least that this length can be."""

LONGEST_NAME = 250
"""Bytes of a name that is compared in all documents at once."""
ALIKE = 16
"""So many documents have to share a name for it to be compared in all of them at once."""
STEPS, FEWEST = 64, 16
"""After so many steps so many documents have to be on their way; fewer are read by themselves."""


def _table(values: dict[int, int], default: int) -> Numbers:
    table = np.full(256, default, np.int64)
    for kind, value in values.items():
        table[kind] = value
    return table


SIZES = _table(FIXED | {kind: beside for kind, (beside, _) in SAID.items()}, -1)
LEAST = _table({kind: least for kind, (_, least) in SAID.items()}, 0)
HAS_LENGTH = _table(dict.fromkeys(SAID, 1), 0).astype(bool)


class Buffer:
    """Bytes that numbers can be read from at any place."""

    def __init__(self, documents: Sequence[bytes]) -> None:
        # Behind the last document there is enough for a name and a value that do not end.
        self.data = b"".join([*documents, bytes(LONGEST_NAME + 32)])
        self.size = len(self.data)
        self.bytes: Kinds = np.frombuffer(self.data, np.uint8)
        self.ints = np.ndarray((self.size - 3,), "<i4", self.data, 0, (1,))
        self.words = np.ndarray((self.size - 7,), "<u8", self.data, 0, (1,))

    def has(self, places: Numbers, text: bytes) -> Flags:
        """Whether these bytes stand at each of the places."""
        found: Flags = np.ones(len(places), bool)
        for start in range(0, len(text), 8):
            part = text[start : start + 8]
            words = self.words[places + start]
            if len(part) < 8:
                words = words & np.uint64((1 << 8 * len(part)) - 1)
            found &= words == np.uint64(int.from_bytes(part, "little"))
        return found

    def rows(self, places: Numbers, width: int) -> Kinds:
        """As many bytes from each of the places, a row each."""
        return self.bytes[places[:, None] + np.arange(width)]


@dataclass(frozen=True)
class Entries:
    """The fields of documents, those of one document together and in their order.

    `parent` is the document's number, `position` the field's within it, `name` that of its name in `names`; `start` and
    `end` are the place of the value. `bounds` are where the fields of each document begin, and where the last ones end.
    An odd document has none.
    """

    parent: Numbers
    position: Numbers
    kind: Kinds
    name: Numbers
    start: Numbers
    end: Numbers
    names: list[bytes]
    bounds: Numbers
    odd: Flags

    def __len__(self) -> int:
        return len(self.parent)


class _Names:
    """The names of the fields that come next, by number."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.numbers: dict[bytes, int] = {}

    def number(self, name: bytes) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def read(self, places: Numbers) -> tuple[Numbers, Numbers]:
        """The number of the name at each place, and the place behind it."""
        names, behind = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
        left = np.arange(len(places))
        alike = ALIKE
        while left.size and alike >= ALIKE:
            start = int(places[left[0]])
            name = self.buffer.data[start : self.buffer.data.index(0, start)]
            if len(name) > LONGEST_NAME:
                break
            same = self.buffer.has(places[left], name + b"\0")
            found = left[same]
            names[found] = self.number(name)
            behind[found] = places[found] + len(name) + 1
            left, alike = left[~same], len(found)
        for each in left.tolist():
            start = int(places[each])
            end = self.buffer.data.index(0, start)
            names[each], behind[each] = self.number(self.buffer.data[start:end]), end + 1
        return names, behind


def fields_of(buffer: Buffer, starts: Numbers, ends: Numbers, *, are_arrays: bool = False) -> Entries:
    """The fields of the documents, or elements of the arrays, that lie at these places, one behind the other."""
    count = len(starts)
    names = _Names(buffer)
    odd: Flags = (buffer.ints[starts] != ends - starts) | (buffer.bytes[ends - 1] != 0)
    who: Numbers = np.flatnonzero(~odd)
    at, stop = starts[who] + 4, ends[who] - 1
    steps: list[tuple[Numbers, ...]] = []
    while True:
        if not (goes_on := at != stop).all():
            who, at, stop = who[goes_on], at[goes_on], stop[goes_on]
        if not who.size:
            break
        if len(steps) >= STEPS and who.size < FEWEST:
            odd[who] = True
            break
        kind = buffer.bytes[at].astype(np.int64)
        if are_arrays:
            name = b"%d\0" % len(steps)
            called, start = np.zeros(len(who), np.int64), at + 1 + len(name)
            wrong = ~buffer.has(at + 1, name)
        else:
            called, start = names.read(at + 1)
            wrong = np.zeros(len(who), bool)
        end, is_wrong = _ends(buffer, kind, start, stop)
        wrong |= is_wrong
        if wrong.any():
            odd[who[wrong]] = True
            fine = ~wrong
            who, stop, kind, called, start, end = (each[fine] for each in (who, stop, kind, called, start, end))
        steps.append((who, kind, called, start, end))
        at = end
    return _in_order(steps, count, list(names.numbers), odd)


def _ends(buffer: Buffer, kind: Numbers, start: Numbers, stop: Numbers) -> tuple[Numbers, Flags]:
    """Where the values end that begin here, and which cannot be such ones."""
    # Nothing is read from behind the documents but zeros.
    said = buffer.ints[np.minimum(start, stop)].astype(np.int64)
    has_length = HAS_LENGTH[kind]
    end = start + SIZES[kind] + np.where(has_length, said, 0)
    wrong = (SIZES[kind] < 0) | (has_length & (said < LEAST[kind])) | (end > stop)
    last = buffer.bytes[np.where(wrong, 0, end - 1)]
    wrong |= (kind == STRING) & (last != 0)
    wrong |= (kind == BOOL) & (last > 1)
    return end, wrong


def _in_order(steps: list[tuple[Numbers, ...]], count: int, names: list[bytes], odd: Flags) -> Entries:
    """The fields of all steps, those of a document one after the other."""
    if not steps:
        none = np.zeros(0, np.int64)
        return Entries(none, none, none.astype(np.uint8), none, none, none, names, np.zeros(count + 1, np.int64), odd)
    position = np.repeat(np.arange(len(steps)), [len(step[0]) for step in steps])
    parent, kind, called, start, end = (np.concatenate(each) for each in zip(*steps, strict=True))
    if odd.any():
        whole = ~odd[parent]
        position, parent, kind, called, start, end = (
            each[whole] for each in (position, parent, kind, called, start, end)
        )
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(parent, minlength=count), out=bounds[1:])
    place = bounds[parent] + position

    def placed(values: Numbers) -> Numbers:
        ordered = np.empty_like(values)
        ordered[place] = values
        return ordered

    return Entries(
        placed(parent),
        placed(position),
        placed(kind).astype(np.uint8),
        placed(called),
        placed(start),
        placed(end),
        names,
        bounds,
        odd,
    )
