"""Mapping files are edited by people: what is wrong must be told with file, line and what to do, all at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dtx_assets.dtx.system import FUNCTIONS, MAPPINGS_DIR
from dtx_assets.machinery.errors import ConfigurationError
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.mapping.decisions import Decision, Decisions
from dtx_assets.machinery.mapping.lineage import accounted_for, column_descriptions, column_lineage
from dtx_assets.machinery.mapping.load import Mappings, load_mappings
from dtx_assets.machinery.mapping.model import mapping_schema
from dtx_assets.machinery.target import TargetColumn, TargetTable
from dtx_assets.machinery.transforms import GENERIC

PET = LegacyTable("pet", "pets", ("pet_id", "name", "kind", "owner_id", "born"), key=("pet_id",))
TOY = LegacyTable("toy", "pets", ("toy_id",))
ANIMAL = TargetTable(
    "zoo_animal",
    "Animal",
    "pets",
    (
        TargetColumn("name", "text", "Its name."),
        TargetColumn("species", "text", "What it is."),
        TargetColumn("keeper_id", "bigint", "Who keeps it.", nullable=True),
        TargetColumn("born", "timestamptz", "When.", nullable=True),
    ),
    writes="insert",
)
MAPPING = """\
target: Animal
decision: "Z #1"
sources:
  pet:
    columns:
      name: { from: name }
      species: { from: kind, value_map: species, output: species }
      keeper_id: { from: owner_id, crosswalk: keeper, missing: "null" }
      born: { from: born, transform: timestamp, with: { invalid: "null" } }
    dropped:
      pet_id: "new ids"
"""
SPECIES = "kind,species,tame\ncat,Felis catus,true\nDog,Canis familiaris,false\n"
ARCHIVED = "archived:\n  toy: not needed\n"
DECISIONS = Decisions(
    (
        Decision(
            key="shape", area=1, number="1", title="", text="", status="open", options=("round", "flat"), chosen="round"
        ),
    ),
    (),
    (),
    {"shape": "round"},
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Mappings]:
    def load(mapping: str = MAPPING, species: str = SPECIES, archived: str = ARCHIVED) -> Mappings:
        (tmp_path / "Animal.yaml").write_text(mapping)
        (tmp_path / "species.csv").write_text(species)
        (tmp_path / "archived.yaml").write_text(archived)
        return load_mappings(
            tmp_path,
            legacy_tables={"pet": PET, "toy": TOY},
            targets=(ANIMAL,),
            transforms=GENERIC,
            functions={"tidy": len},
            crosswalks=("keeper",),
            decisions=DECISIONS,
        )

    return load


def test_a_sound_directory_gives_its_mapping_value_maps_and_lineage(load: Callable[..., Mappings]) -> None:
    mappings = load()
    assert mappings.value_maps["species"].rows() == [("cat", "Felis catus", True), ("Dog", "Canis familiaris", False)]
    assert column_lineage(mappings.for_target("Animal"), "zoo")["species"] == [
        (("zoo", "legacy", "pet"), "kind"),
        (("zoo", "mapping", "species"), "species"),
    ]
    assert column_descriptions(mappings.for_target("Animal"))["keeper_id"] == (
        "pet.owner_id through crosswalk keeper; what is not listed is NULL and counted"
    )
    assert accounted_for(mappings, "pet") == ({"name", "kind", "owner_id", "born"}, {"pet_id": "new ids"})


BROKEN = [
    ("target: Animal", "target: Animol", 1, "unknown target model 'Animol'", "did you mean 'Animal'?"),
    ("  pet:", "  pett:", 4, "unknown legacy table 'pett'", "did you mean 'pet'?"),
    ("{ from: name }", "{ from: nmae }", 6, "pet has no column 'nmae'", "did you mean 'name'?"),
    ("{ from: name }", "{ from: toy.name }", 6, "toy has no column 'name'", "use one of: toy_id"),
    ("{ from: name }", "{ form: name }", 6, "unknown key 'form'", "did you mean 'from'?"),
    (
        "{ from: name }",
        "{ from: name, transform: text, crosswalk: keeper }",
        6,
        "says transform and crosswalk",
        "keep one: a column is made in one way",
    ),
    (
        "{ from: name }",
        "{ note: nothing }",
        6,
        "says nothing about where the value comes from",
        "give `from`, or a `constant`",
    ),
    ("{ from: name }", "{ from: name, transform: txt }", 6, "unknown transform 'txt'", "did you mean 'text'?"),
    ("{ from: name }", "{ from: name, by: expand }", 6, "names no expand function", "name one"),
    (
        "{ from: name }",
        "{ from: name, when: { decision: shpae, option: flat } }",
        6,
        "unknown decision 'shpae'",
        "did you mean 'shape'?",
    ),
    (
        "{ from: name }",
        "{ from: name, when: { decision: shape, option: flt } }",
        6,
        "has no option 'flt'",
        "did you mean 'flat'?",
    ),
    ("value_map: species", "value_map: specie", 7, "unknown value map 'specie'", "did you mean 'species'?"),
    ("output: species", "output: latin", 7, "value map species has no column 'latin'", "use one of: species, tame"),
    ("crosswalk: keeper", "crosswalk: keepers", 8, "unknown crosswalk 'keepers'", "did you mean 'keeper'?"),
    (
        'missing: "null"',
        "missing: ignore",
        8,
        "'missing' cannot be 'ignore'",
        "it should be 'reject', 'null' or 'keep'",
    ),
    ("{ invalid:", "{ invlid:", 9, "timestamp has no setting 'invlid'", "did you mean 'invalid'?"),
    ("      name:", "      nam:", 6, "Animal has no column 'nam'", "did you mean 'name'?"),
    ("      name: { from: name }\n", "", 3, "Animal.name must have a value and nothing fills it", "give it a constant"),
    ('      pet_id: "new ids"', "      name: twice", 4, "pet.pet_id is not accounted for", "list it under `dropped`"),
    (
        '      pet_id: "new ids"',
        '      pet_id: "new ids"\n      petname: "?"',
        12,
        "pet has no column 'petname' to drop",
        "did you mean",
    ),
    ("    columns:", "    shape: tidi\n    columns:", 5, "unknown shape function 'tidi'", "did you mean 'tidy'?"),
    ("sources:", "sources: [", 5, "not valid YAML", "mend the line"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "remedy"), BROKEN, ids=[f"{what}" for _, _, _, what, _ in BROKEN]
)
def test_a_broken_mapping_is_told_with_line_and_remedy(
    load: Callable[..., Mappings], old: str, new: str, line: int, what: str, remedy: str
) -> None:
    assert old in MAPPING
    with pytest.raises(ConfigurationError) as error:
        load(MAPPING.replace(old, new, 1))
    text = str(error.value)
    entry = text[text.index(what) :]
    assert f"Animal.yaml:{line}\n" in entry.split("do:")[0] + "\n", text
    assert remedy in entry.split("do:")[1].split("\n")[0], text


def test_all_that_is_wrong_is_told_at_once(load: Callable[..., Mappings]) -> None:
    with pytest.raises(ConfigurationError, match="3 things are wrong") as error:
        load(
            MAPPING.replace("from: name", "from: nmae")
            .replace("crosswalk: keeper", "crosswalk: kepeer")
            .replace("value_map: species", "value_map: x")
        )
    assert all(word in str(error.value) for word in ("nmae", "kepeer", "'x'"))


def test_a_table_that_goes_nowhere_is_told(load: Callable[..., Mappings]) -> None:
    with pytest.raises(ConfigurationError, match="legacy table toy goes nowhere"):
        load(archived="archived: {}\n")


@pytest.mark.parametrize(
    ("species", "line", "what"),
    [
        (SPECIES + "CAT ,x,true\n", 4, "the key 'CAT ' stands here twice (first in line 2)"),
        (SPECIES + "cow,Bos taurus\n", 4, "the row has 2 fields, the header 3"),
        ("", 1, "the value map is empty"),
    ],
)
def test_a_broken_value_map_is_told_with_its_line(
    load: Callable[..., Mappings], species: str, line: int, what: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(species=species)
    assert what in str(error.value)
    assert f"species.csv:{line}" in str(error.value)


def test_the_shipped_json_schema_is_the_one_of_the_code() -> None:
    shipped = json.loads((MAPPINGS_DIR.parent / "mapping.schema.json").read_text())
    assert shipped == mapping_schema()


def test_every_function_that_can_be_named_is_named_in_a_mapping() -> None:
    text = "".join(path.read_text() for path in MAPPINGS_DIR.glob("*.yaml"))
    unnamed = [name for name in FUNCTIONS if name not in text]
    assert unnamed == []
