"""The comparison tells each kind of difference, and none where there is none."""

from collections import Counter
from copy import deepcopy
from datetime import timedelta, timezone

import pytest

from dtx_assets_tests.dispatch.compare import Found, brief, differences
from dtx_assets_tests.dispatch.second_reading import Inputs, migrate_and_queue
from dtx_assets_tests.dispatch.second_reading_books import Account, Mapped, Rejected, target_id
from dtx_assets_tests.dispatch.second_reading_texts import queue_id
from dtx_assets_tests.dispatch.small_world import row, world

PROFILE, TYPE = target_id("auth_user", 1), target_id("dispatch_course", 5)


@pytest.fixture
def expected():
    record = row("dispatch_record", created_at="2024-01-01 00:00:00", public="f", text="Hello")
    return migrate_and_queue(Inputs(world(dispatch_record=[record, row("dispatch_record", id="x")])))


@pytest.fixture
def found(expected):
    """What a database would hold if all were well."""
    result, queued = expected
    queue = {
        queue_id(*of, each.content_type): {
            **dict(zip(("source_table", "source_id"), of, strict=True)),
            "content_type": each.content_type,
            "operation": "create",
            "priority": each.priority,
            "content_hash": each.content_hash,
        }
        for of, each in queued.items()
    }
    rows = deepcopy(result.rows)
    rows["profiles"][PROFILE]["column_of_theirs"] = 1
    message = rows["messages"][target_id("dispatch_record", 6)]
    message["created_at"] = message["created_at"].astimezone(timezone(timedelta(hours=2)))
    return Found(
        rows,
        list(result.mapping),
        list(result.rejected),
        {("dispatch_record", "x", "messages"): "id: x"},
        deepcopy(result.accounting),
        list(result.legacy_ids),
        queue,
        {(*of, each.content_type, each.content_hash) for of, each in queued.items()},
        {(*of, "/".join(of), each.text, each.content_hash) for of, each in queued.items()},
    )


def test_no_difference(found, expected):
    assert differences(found, *expected) == []


def change_row(found):
    found.rows["profiles"][PROFILE]["last_name"] = "Leigh"


def change_json(found):
    found.rows["messages"][target_id("dispatch_record", 6)]["metadata"]["public"] = 0


def lose_row(found):
    del found.rows["order_types"][TYPE]


def add_row(found):
    found.rows["order_types"][PROFILE] = {}


def lose_mapping(found):
    found.mapping.remove(Mapped("auth_user", "1", "profiles", PROFILE))


def double_mapping(found):
    found.mapping.append(Mapped("auth_user", "1", "profiles", PROFILE))


def change_reasons(found):
    found.rejected[:] = [Rejected("dispatch_record", "x", "messages", ("orphan_reference",))]


def change_account(found):
    found.accounting["auth_user", "profiles"].dropped["identical"] = 1


def lose_account(found):
    del found.accounting["auth_user", "profiles"]


def add_coercion(found):
    found.accounting["auth_user", "profiles"].coerced["trimmed"] = 1


def lose_legacy_id(found):
    found.legacy_ids.remove(("auth_user", "1", "profiles", PROFILE))


def change_hash(found):
    next(iter(found.queue.values()))["content_hash"] = "0" * 64


def lose_queue(found):
    found.queue.popitem()


def add_queue(found):
    found.queue[PROFILE] = {"source_table": "profiles", "source_id": PROFILE, "content_type": "x"}


def lose_embedding(found):
    found.embedded.pop()


def change_document(found):
    entity, identity, _, *more = found.documents.pop()
    found.documents.add((entity, identity, "another", *more))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (change_row, {"profiles.last_name": 1}),
        (change_json, {"messages.metadata": 1}),
        (lose_row, {"order_types row missing": 1}),
        (add_row, {"order_types row too much": 1}),
        (lose_mapping, {"mapping missing": 1}),
        (double_mapping, {"mapping too much": 1}),
        (change_reasons, {"rejected too much": 1, "rejected missing": 1}),
        (change_account, {"accounting": 1}),
        (lose_account, {"accounting": 1}),
        (add_coercion, {"coerced": 1}),
        (lose_legacy_id, {"compat.legacy_id missing": 1}),
        (change_hash, {"queue.content_hash": 1}),
        (lose_queue, {"queue missing": 1}),
        (add_queue, {"queue too much": 1}),
        (lose_embedding, {"embedding missing": 1}),
        (change_document, {"document too much": 1, "document missing": 1}),
    ],
)
def test_each_kind_of_difference(found, expected, change, where):
    change(found)
    told = differences(found, *expected)
    assert Counter(each.where for each in told) == where
    assert all(f"{name}: {number}" in brief(told) for name, number in where.items())


def test_counts_of_coercions_compare_without_their_names(found, expected):
    result, _ = expected
    result.accounting["auth_user", "profiles"] = Account(2, 2, coerced=Counter({"a": 1, "b": 2}))
    found.accounting["auth_user", "profiles"] = Account(2, 2, coerced=Counter({"x": 2, "y": 1}))
    assert differences(found, *expected) == []
