"""A mapping of one row a row: what it says is written, duplicates in the target's natural key are settled."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.mapping.model import TargetMapping
from dtx_assets.machinery.prepare.flow import mapping_run
from dtx_assets.machinery.system.flow import Flow
from dtx_assets_tests.machinery.zoo import ANIMALS, MAPPINGS, ONLY_ANIMALS, SPECIES, Zoo, animal, balances, reasons


@pytest.fixture
def zoo(tmp_path) -> Zoo:
    zoo = Zoo(tmp_path)
    zoo.system = replace(zoo.system, targets=(replace(ANIMALS, natural_key=("keeper_id", "name")), SPECIES))
    return zoo


def flow(zoo: Zoo, **options) -> Flow:
    mapping = {"target": "Animal", "decision": "1", "sources": {"animal": {**MAPPINGS["Animal"]["animal"], **options}}}
    targets = {**zoo.system.mappings.targets, "Animal": TargetMapping.model_validate(mapping)}
    zoo.system = replace(zoo.system, mappings=replace(zoo.system.mappings, targets=targets))
    return replace(ONLY_ANIMALS, decisions=(), run=mapping_run(["Animal"]))


def test_each_row_is_written_rejected_or_dropped(zoo):
    rows = [
        animal(1),
        animal(2, kind="dragon", name="Smaug"),
        animal(3, name="gone"),
        animal(4, name="Mitzi the Great"),
        animal(5, name=None),
    ]
    zoo.land("animal", rows)
    gone = {"rule": "gone", "only": {"column": "name", "equals": "gone"}}
    made = flow(zoo, require="name", drop=[gone])
    content = zoo.content(zoo.prepare(made))
    assert content.rows == [{"keeper_id": 101, "number": 1, "species": "Felis", "name": "Mitzi"}]
    assert reasons(content) == {2: ["unmapped_value"], 4: ["schema_violation"], 5: ["schema_violation"]}
    assert [source_row for _, _, source_row, _, _ in content.links] == [1]
    entry = content.accounting["animal"]
    assert balances(entry)
    assert entry["dropped"] == {"gone": 1}


@pytest.mark.parametrize("nulls_equal", [False, True])
def test_the_last_row_of_a_natural_key_counts_and_a_null_equals_another_only_where_the_index_says_so(zoo, nulls_equal):
    animals = replace(ANIMALS, natural_key=("keeper_id", "name"), nulls_equal=nulls_equal)
    zoo.system = replace(zoo.system, targets=(animals, SPECIES))
    # Keepers 1 and 30 are one person in the target.
    zoo.land(
        "animal", [animal(1), animal(2, keeper=30), animal(3, keeper=2), animal(4, name=None), animal(5, name=None)]
    )
    content = zoo.content(zoo.prepare(flow(zoo)))
    assert reasons(content) == {1: ["duplicate_key"], **({4: ["duplicate_key"]} if nulls_equal else {})}
    assert [row["number"] for row in content.rows if row["number"] != 4] == [2, 5, 3]
