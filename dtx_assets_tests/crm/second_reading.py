"""What the contract of CRM says (sections 3 to 5), done a second time: plain, slow and without the package.

It takes the documents of each collection as raw BSON and gives the rows of the 39 tables, rejected entries, mapping and
accounting. Nothing of `dtx_assets` is imported, so that a misreading has to be made twice to go unseen. Comments cite
the contract where the reading is not obvious.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from dtx_assets_tests.crm.second_reading_bson import (
    Fields,
    Undecodable,
    Value,
    compact,
    extended,
    read_document,
    readable_id,
    text_of,
)
from dtx_assets_tests.crm.second_reading_facts import ARCHIVE, FACTS, SECOND_BRAIN, USERS, Facts, Field
from dtx_assets_tests.crm.second_reading_values import (
    Cell,
    Refused,
    decided,
    is_blank,
    members_of,
    object_id,
    read_cell,
)

NAMESPACE = UUID("9ff85368-0ce2-530b-bca5-ea5ff5b21b75")
Row = dict[str, Any]
Flow = tuple[str, str]
Pair = tuple[str, str]


@dataclass
class Inputs:
    """`collections`: raw documents in the order read; `existing_users`: e-mail → id of rows others wrote."""

    collections: Mapping[str, Sequence[bytes]]
    decisions: Mapping[str, str] = field(default_factory=dict)
    existing_users: Mapping[str, str] = field(default_factory=dict)
    facts: Facts = FACTS

    def decided(self, key: str) -> str:
        return decided(self.decisions, key)


@dataclass(frozen=True, order=True)
class Rejected:
    source_table: str
    source_key: str
    target: str
    reasons: tuple[str, ...]
    partial: bool = False


@dataclass
class Account:
    """The accounting of one flow, in documents of the collection."""

    read: int = 0
    migrated: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, order=True)
class Mapped:
    """`target_id` of a junction: the two ids in the order of the table's columns; `part`: the other's hex id."""

    source_table: str
    source_key: str
    target_table: str
    part: str
    target_id: str | Pair


@dataclass
class Result:
    """`rows`: of each collection's own table by hex id. `pairs`: of each junction, with the sides that name them.

    Dates are milliseconds after 1970. `causes` tells columns: (collection, key, column, reason), to look into.
    Under `ids: uuid_v4` an id is written `collection:hex`.
    """

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    pairs: dict[str, dict[Pair, set[int]]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    causes: list[tuple[str, str, str, str]] = field(default_factory=list)
    mapping: set[Mapped] = field(default_factory=set)
    accounting: dict[Flow, Account] = field(default_factory=dict)
    extra: list[tuple[str, str, Any]] = field(default_factory=list)


@dataclass
class Document:
    """One document on its way; `state`: undecodable, unusable (its id), identical, beaten (by its id), or sound."""

    key: str
    state: str = "sound"
    ordered: Fields = ()
    hex: str | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def fields(self) -> dict[str, Value]:
        return dict(self.ordered)


def migrate(inputs: Inputs) -> Result:
    return Migration(inputs).run()


def key_of(identifier: Value | None, position: int) -> str:
    """4.1: 24 digits; of any other `_id` its relaxed Extended JSON, compact; `#position` where there is none."""
    if identifier is None:
        return f"#{position}"
    found = object_id(identifier)
    return found[0] if found else compact(extended(identifier, relaxed=True))


def read_documents(raws: Sequence[bytes]) -> list[Document]:
    """The documents of a collection, those with one id told apart (4.1)."""
    documents = [_document(raw, position) for position, raw in enumerate(raws, 1)]
    by_id: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if document.hex is not None:
            by_id[document.hex].append(document)
    for same in by_id.values():
        seen: set[str] = set()
        for document in same:
            text = text_of(document.ordered)
            document.state = "identical" if text in seen else "sound"
            seen.add(text)
        left = [document for document in same if document.state == "sound"]
        # "else an ObjectId goes before text, then the later one counts"
        objects = [document for document in left if document.fields["_id"].kind == "objectId"]
        for document in left:
            if document is not (objects or left)[-1]:
                document.state = "beaten"
    return documents


def _document(raw: bytes, position: int) -> Document:
    try:
        ordered = read_document(raw)
    except Undecodable:
        return Document(key_of(readable_id(raw), position), "undecodable")
    identifier = dict(ordered).get("_id")
    found = object_id(identifier) if identifier else None
    key = key_of(identifier, position)
    return Document(key, "sound" if found else "unusable", ordered, found[0] if found else None)


class Migration:
    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.facts = inputs, inputs.facts
        self.documents = {name: read_documents(inputs.collections.get(name, ())) for name in self.facts.collections}
        self.migrated: dict[str, dict[str, str]] = {name: {} for name in self.facts.collections}
        self.winner_of: dict[str, str] = {}
        self.adopted: set[str] = set()
        self.result = Result(
            rows={name: {} for name in self.facts.collections}, pairs={name: {} for name in self.facts.junctions}
        )

    def run(self) -> Result:
        for name in self.facts.in_order():
            if self.is_loaded(name):
                self.decide(name)
        for name in self.facts.collections:
            if self.is_loaded(name):
                self.write_own(name)
        for sides in self.facts.junctions.values():
            for side in sides:
                self.write_pairs(side)
        self.archive()
        return self.result

    def is_loaded(self, collection: str) -> bool:
        return collection != SECOND_BRAIN or self.inputs.decided("second_brain") == "load"

    def archive(self) -> None:
        for name, raws in self.inputs.collections.items():
            if name not in self.documents or not self.is_loaded(name):
                self.result.accounting[name, ARCHIVE] = Account(read=len(raws), migrated=len(raws))

    # --- a collection's own table -------------------------------------------------------------------------------------

    def decide(self, collection: str) -> None:
        """Which documents are migrated, and to which id; columns without a foreign key are left for later."""
        for document in self.documents[collection]:
            if document.state == "undecodable":
                document.reasons.append(("", "unparseable"))
            elif document.state != "identical":
                self.look_at_columns(collection, document)
        if collection == USERS:
            self.compete_for_emails()
        for document in self.documents[collection]:
            if document.hex is not None and document.state == "sound" and not document.reasons:
                self.migrated[collection].setdefault(document.hex, self.identify(collection, document.hex))

    def identify(self, collection: str, hex_id: str) -> str:
        if self.inputs.decided("ids") == "uuid_v4":
            return f"{collection}:{hex_id}"
        return str(uuid5(NAMESPACE, hex_id))

    def look_at_columns(self, collection: str, document: Document) -> None:
        """ "All columns of a document are looked at: a row rejected for several reasons has all of them." """
        if document.state == "beaten":
            document.reasons.append(("id", "duplicate_key"))
        fields = document.fields
        for column in self.facts.columns[collection]:
            if column.field == "_id" and document.state == "unusable":
                document.reasons.append(("id", "unparseable"))
                continue
            try:
                cell = read_cell(column, fields.get(column.field), self.inputs.decisions, document.hex)
                if column.references and cell.value is not None:
                    cell = self.reference(column, cell)
                document.cells[column.column] = cell
            except Refused as refused:
                document.reasons.append((column.column, refused.args[0]))

    def resolve(self, collection: str, hex_id: str) -> tuple[str | None, str, list[str]]:
        """Target id (None: not migrated), hex id of the document that counts, and `merged_reference` where merged."""
        merged = []
        if collection == USERS and hex_id in self.winner_of:
            hex_id = self.winner_of[hex_id]
            merged = ["merged_reference"]
        if collection == USERS and hex_id in self.adopted:
            merged = ["merged_reference"]
        return self.migrated[collection].get(hex_id), hex_id, merged

    def reference(self, column: Field, cell: Cell) -> Cell:
        target_id, _, merged = self.resolve(column.references, cell.value)
        if target_id is not None:
            return Cell(target_id, cell.coerced + merged)
        if column.nullable and self.inputs.decided("dangling_optional") == "null":
            return Cell(None, ["dangling_reference"])
        raise Refused("orphan_reference")

    # --- 4.5 ----------------------------------------------------------------------------------------------------------

    def compete_for_emails(self) -> None:
        by_email: dict[str, list[Document]] = defaultdict(list)
        for user in self.documents[USERS]:
            if user.state == "sound" and not user.reasons:
                by_email[user.cells["email"].value].append(user)
        for email, users in by_email.items():
            *losers, winner = sorted(users, key=_rank)
            assert winner.hex is not None
            for loser in losers:
                loser.reasons.append(("email", "duplicate_key"))
                if self.inputs.decided("duplicate_user") == "merge_references" and loser.hex:
                    self.winner_of[loser.hex] = winner.hex
            if email in self.inputs.existing_users:
                if self.inputs.decided("existing_user") == "conflict":
                    winner.reasons.append(("email", "target_conflict"))
                else:
                    self.adopted.add(winner.hex)
                    self.migrated[USERS][winner.hex] = self.inputs.existing_users[email]

    # --- the row, and the books ---------------------------------------------------------------------------------------

    def write_own(self, collection: str) -> None:
        account = self.result.accounting[collection, collection] = Account()
        for document in self.documents[collection]:
            account.read += 1
            if document.state == "identical":
                account.dropped["identical"] += 1
            elif document.reasons:
                self.reject(account, (collection, collection), document.key, (code for _, code in document.reasons))
                self.result.causes += [(collection, document.key, *cause) for cause in document.reasons]
            else:
                account.migrated += 1
                self.write_row(collection, document, account)

    def write_row(self, collection: str, document: Document, account: Account) -> None:
        assert document.hex is not None
        target_id = self.migrated[collection][document.hex]
        self.result.mapping.add(Mapped(collection, document.hex, collection, "", target_id))
        rest = tuple((name, value) for name, value in document.ordered if name not in self.facts.declared[collection])
        if rest and self.inputs.decided("undeclared_fields") == "extra_table":
            self.result.extra.append((collection, document.hex, extended(Value("object", rest), relaxed=False)))
        if collection == USERS and document.hex in self.adopted:
            return  # "leaves the row untouched, maps the user to it (migrated, nothing coerced)"
        row: Row = {}
        for column in self.facts.columns[collection]:
            cell = document.cells[column.column]
            if column.implied_reference:
                cell = self.unconstrained(column, cell)
            row[column.column] = cell.value
            account.coerced.update(cell.coerced)
        row["id"] = target_id
        self.result.rows[collection][document.hex] = row

    def unconstrained(self, column: Field, cell: Cell) -> Cell:
        if column.rule == "array_uuid":
            return self.shared_with(column, cell)
        if cell.value is None:
            return cell
        target_id, _, merged = self.named(column, cell.value)
        return Cell(None, ["dangling_reference"]) if target_id is None else Cell(target_id, cell.coerced + merged)

    def named(self, column: Field, hex_id: str) -> tuple[str | None, str, list[str]]:
        """What an id without a foreign key becomes; None where it is dropped."""
        target_id, hex_id, merged = self.resolve(column.implied_reference, hex_id)
        may_dangle = self.inputs.decided("unconstrained_reference") == "keep"
        if target_id is None and may_dangle and self.inputs.decided("ids") == "uuid_v5":
            return str(uuid5(NAMESPACE, hex_id)), hex_id, merged
        return target_id, hex_id, merged

    def shared_with(self, column: Field, cell: Cell) -> Cell:
        made = Cell([], list(cell.coerced))
        for member in cell.value:
            target_id, _, merged = self.named(column, member.hex)
            if target_id is None:
                made.coerced.append("dangling_reference")
                continue
            # "a member counts for its text or merger though it repeats"
            made.coerced += [*member.coerced, *merged]
            if target_id in made.value:
                made.coerced.append("duplicate_member")
            else:
                made.value.append(target_id)
        return made

    def reject(
        self, account: Account | None, flow: Flow, key: str, reasons: Iterable[str], *, partial: bool = False
    ) -> None:
        if account is not None:
            account.rejected += 1
        self.result.rejected.append(Rejected(flow[0], key, flow[1], tuple(sorted(set(reasons))), partial))

    # --- 4.6 ----------------------------------------------------------------------------------------------------------

    def write_pairs(self, side: Field) -> None:
        account = self.result.accounting[side.collection, side.junction] = Account()
        for document in self.documents[side.collection]:
            account.read += 1
            self.write_pairs_of(document, side, account)

    def write_pairs_of(self, document: Document, side: Field, account: Account) -> None:
        flow = (side.collection, side.junction)
        if document.state == "identical":
            account.dropped["identical"] += 1
            return
        if document.state == "undecodable":
            self.reject(account, flow, document.key, ["unparseable"])
            return
        members, scalar = members_of(document.fields.get(side.field, Value("null")))
        if all(_is_nothing(member) for member in members):
            account.dropped["empty"] += 1
            return
        if side.side == 2 and self.inputs.decided("asymmetric_arrays") == "owner_side":
            account.dropped["not_owner_side"] += 1
            return
        own_id = self.resolve(side.collection, document.hex)[0] if document.hex else None
        if document.state != "sound" or own_id is None:
            reason = {"unusable": "unparseable", "beaten": "duplicate_key"}.get(document.state, "orphan_reference")
            self.reject(account, flow, document.key, [reason])
            return
        bad, coerced, named = self.look_at_members(members, side)
        if not named:
            self.reject(account, flow, document.key, bad)
            return
        account.migrated += 1
        account.coerced.update([*scalar, *coerced])
        for reason in bad:
            self.reject(None, flow, document.key, [reason], partial=True)
        for other_hex, other_id in named.items():
            pair = (own_id, other_id) if side.side == 1 else (other_id, own_id)
            self.result.pairs[side.junction].setdefault(pair, set()).add(side.side)
            self.result.mapping.add(Mapped(side.collection, document.key, side.junction, other_hex, pair))

    def look_at_members(self, members: Sequence[Value], side: Field) -> tuple[list[str], list[str], dict[str, str]]:
        """Reasons of the bad ones, what is counted, and the usable ones: hex id → target id."""
        bad: list[str] = []
        coerced: list[str] = []
        named: dict[str, str] = {}
        for member in members:
            if _is_nothing(member):
                coerced.append("null_member")
                continue
            found = object_id(member)
            if found is None:
                bad.append("unparseable")
                continue
            other_id, other_hex, merged = self.resolve(side.references, found[0])
            if other_id is None:
                bad.append("orphan_reference")
                continue
            coerced += [*found[1], *merged]
            if other_hex in named:
                coerced.append("duplicate_member")
            named[other_hex] = other_id
        return bad, coerced, named


def _is_nothing(value: Value) -> bool:
    return value.kind == "null" or is_blank(value)


def _rank(user: Document) -> tuple[int, int, str]:
    """ "the latest `lastLoginAt` (NULL is earliest), then `created_on`, then the highest id wins"."""
    last_login, created = user.cells["lastLoginAt"].value, user.cells["created_on"].value
    assert user.hex is not None
    return (-(2**63) if last_login is None else last_login, created, user.hex)
