"""A mapping of one row a row: what it says is written, duplicates in the target's natural key are settled."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.base.errors import StructureError
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


def test_of_several_rows_one_counts_before_parts_are_made_of_it(zoo):
    rows = [animal(3, name="a"), animal(12, name="b"), animal(7, name=None), animal(20, keeper=99, name="c")]
    zoo.land("animal", rows)
    # The highest number counts, as a number; a row that is rejected for something else takes no part.
    one = {"key": "keeper_id", "order": "number", "column": "animal_id", "detail": "a higher number counts"}
    content = zoo.content(zoo.prepare(flow(zoo, duplicate_rows=one, require="name")))
    assert [row["number"] for row in content.rows] == [12]
    assert reasons(content) == {1: ["duplicate_key"], 3: ["schema_violation"], 4: ["orphan_reference"]}


def test_a_value_may_be_made_of_some_rows_only_and_of_others_nothing_is_wrong_with_it(zoo):
    zoo.land("animal", [animal(1, keeper="x"), animal(2, kind="dog", keeper="x"), animal(3, kind="dog", name="Rex")])
    keeper = {"from": "keeper_id", "crosswalk": "keeper", "only": {"column": "kind", "equals": "CAT "}}
    columns = {**MAPPINGS["Animal"]["animal"]["columns"], "keeper_id": {"constant": 5}}
    content = zoo.content(zoo.prepare(flow(zoo, columns=columns, helpers={"keeper": keeper}, owner="keeper")))
    assert reasons(content) == {1: ["orphan_reference"]}
    assert [row["number"] for row in content.rows] == [2, 3]


def test_a_sentence_says_what_the_row_has(zoo):
    zoo.land("animal", [animal(1, kind="dog"), animal(2, name=None)])
    rule = {"reason": "unmapped_value", "detail": "no {kind} is called {name}; it is a {:species}"}
    only = [
        {"only": {"column": "kind", "equals": "dog"}, **rule},
        {"only": {"column": "name", "is": "missing"}, **rule},
    ]
    content = zoo.content(zoo.prepare(flow(zoo, reject=only)))
    assert {row["source_row"]: row["detail"] for row in content.rejected} == {
        1: "no dog is called Mitzi; it is a Canis",
        2: "no cat is called NULL; it is a Felis",
    }


def test_rows_that_count_towards_another_target_have_to_be_counted_there(zoo):
    zoo.land("animal", [animal(1), animal(2, kind="dog")])
    made = replace(flow(zoo, only={"column": "kind", "equals": "cat"}), counted_apart=False)
    with pytest.raises(StructureError, match="2 rows were read, 1 are accounted for"):
        zoo.prepare(made)
