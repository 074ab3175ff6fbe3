"""Mapping files are edited by people: what is wrong must be told with file, line and what to do, all at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dtx_assets.dtx.system import FUNCTIONS, MAPPINGS_DIR
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.mapping.decisions import Decision, Decisions
from dtx_assets.machinery.mapping.lineage import accounted_for, column_descriptions, column_lineage, value_origins
from dtx_assets.machinery.mapping.load import Mappings, load_mappings
from dtx_assets.machinery.mapping.model import mapping_schema
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.transforms.columns import GENERIC

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
        TargetColumn("tame", "boolean", "Whether it is.", nullable=True),
        TargetColumn("diet", "text", "What it eats.", nullable=True, allowed=("meat", "plants")),
    ),
    writes="insert",
)
MAPPING = """\
target: Animal
decision: "A1 #1"
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
    descriptions = column_descriptions(mappings.for_target("Animal"))
    assert descriptions["keeper_id"] == "pet.owner_id through crosswalk keeper; what is not listed is NULL and counted"
    assert descriptions["born"] == "pet.born by transform timestamp (invalid: 'null')"
    assert accounted_for(mappings, "pet") == ({"name", "kind", "owner_id", "born"}, {"pet_id": "new ids"})


BROKEN = [
    ("target: Animal", "target: Animol", 1, "unknown target model 'Animol'", "did you mean 'Animal'?"),
    ("  pet:", "  pett:", 4, "unknown legacy table 'pett'", "did you mean 'pet'?"),
    ("{ from: name }", "{ from: nmae }", 6, "pet has no column 'nmae'", "did you mean 'name'?"),
    ("{ from: name }", "{ from: toy.name }", 6, "toy has no column 'name'", "use one of: toy_id"),
    ("{ from: name }", "{ form: name }", 6, "unknown key 'form'", "did you mean 'from'?"),
    (
        "{ from: name }",
        "{ from: name, by: shape, crosswalk: keeper }",
        6,
        "says crosswalk and by",
        "keep one: a column is made in one way",
    ),
    (
        "{ from: name }",
        "{ from: name, transform: text, crosswalk: keeper }",
        6,
        "transform text cannot be made of 1 column with these settings",
        "The text as it is",
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
    (
        'decision: "A1 #1"',
        'decision: "A1 #7"',
        2,
        "there is no decision A1 #7",
        "did you mean 'A1 #1'?",
    ),
    ('decision: "A1 #1"', "decision: first", 2, "'first' names no decision", "write area and number, as in `A8 #1`"),
    ('decision: "A1 #1"\n', "", 1, "'decision' is missing", "add `decision: …`"),
    ('pet_id: "new ids"', 'pet_id: ""', 11, "pet_id is dropped without a reason", "say why it goes nowhere"),
    (
        'pet_id: "new ids"',
        'pet_id: "new ids"\n      name: twice',
        12,
        "pet.name is both used and dropped",
        "take it out of `dropped`",
    ),
    ("{ from: kind, value", "{ from: [kind, name], value", 7, "a value map takes one column, not 2", "name one"),
    ("{ from: name }", "{ from: toy.toy_id }", 6, "toy.toy_id is of another table", "let a function bring it"),
    (
        "{ from: name }",
        "{ from: name, input: tidy_name }",
        6,
        "`input` names the shaped column 'tidy_name'",
        "name one: `shape: …`, or remove `input`",
    ),
    (
        "{ from: name }",
        "{ from: [name, kind], transform: text }",
        6,
        "transform text cannot be made of 2 columns",
        "The text as it is",
    ),
    (
        '{ invalid: "null" }',
        "{ invalid: ignore }",
        9,
        "timestamp cannot have 'ignore' as its invalid",
        "it should be 'reject' or 'null'",
    ),
    (
        "output: species }",
        'output: species, missing: "null" }',
        7,
        "species cannot be NULL",
        "reject what is not listed",
    ),
    ("output: species }", "output: species, allow_null: true }", 7, "species cannot be NULL", "remove `allow_null`"),
    (
        "output: species }",
        "output: species, when: { decision: shape, option: flat } }",
        7,
        "species cannot be NULL under the other options",
        "remove `when`",
    ),
    ("value_map: species, output: species", "value_map: species", 7, "names a value map but not", "add `output: …`"),
    (
        "{ from: name }",
        '{ from: name, transform: filled_name, with: { form: "no {}" } }',
        6,
        "transform filled_name cannot be made of 1 column with these settings",
        "see what it does",
    ),
    ("{ from: name }", "{ transform: text }", 6, "says transform but not of which column", "add `from: …`"),
    ("{ from: name }", "{ from: name, missing: keep }", 6, "`missing` says nothing here", "value_map or crosswalk"),
    ("{ from: name }", "{ from: name, uses: species.latin }", 6, "has no column 'latin'", "species.kind"),
    ("{ from: name }", "{ from: name, uses: keepr }", 6, "unknown value map or crosswalk 'keepr'", "'keeper'"),
    (
        "    dropped:",
        "      tame: { constant: 1 }\n    dropped:",
        10,
        "tame is boolean, which 1 is not",
        "write a value of type boolean",
    ),
    ("    dropped:", "      diet: { constant: plant }\n    dropped:", 10, "diet cannot be 'plant'", "mean 'plants'?"),
    (
        "    dropped:",
        "      tail: { constant: long }\n    dropped:",
        10,
        "Animal has no column 'tail'",
        "takes a constant and its `type`",
    ),
    *(
        (
            '      born: { from: born, transform: timestamp, with: { invalid: "null" } }\n    dropped:\n',
            f'      born: {{ constant: "{time}" }}\n    dropped:\n      born: constant\n',
            9,
            f"born is an instant, which {time!r} is not",
            "write a time with its offset",
        )
        for time in ("soon", "2024-01-31 00:00:00", "9999-12-31 23:59:59-05:00", "0001-01-01 00:00:00+01:00")
    ),
    (
        "    dropped:",
        "      diet: { constant: meat, type: text }\n    dropped:",
        10,
        "diet has the type text already",
        "remove `type`",
    ),
    ("{ from: name }", "{ from: name }\n      name: { from: kind }", 7, "not valid YAML: found duplicate key", "mend"),
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
    with pytest.raises(ConfigurationError, match="4 things are wrong") as error:
        load(
            MAPPING.replace("from: name", "from: nmae")
            .replace("crosswalk: keeper", "crosswalk: kepeer")
            .replace("value_map: species", "value_map: x")
        )
    assert all(word in str(error.value) for word in ("nmae", "kepeer", "'x'", "pet.name is not accounted for"))


def test_a_column_that_no_plan_knows_is_filled_by_a_constant_with_a_type(load: Callable[..., Mappings]) -> None:
    mappings = load(MAPPING.replace("    dropped:", "      tail: { constant: long, type: text }\n    dropped:"))
    (table,) = mappings.completed((ANIMAL,))
    assert [column.name for column in table.columns] == [*(column.name for column in ANIMAL.columns), "tail"]
    assert table.column("tail").type == "text"


def test_a_file_must_be_named_after_its_target(load: Callable[..., Mappings], tmp_path: Path) -> None:
    (tmp_path / "Beast.yaml").write_text(MAPPING)
    with pytest.raises(ConfigurationError, match=r"rename the file to Animal.yaml") as error:
        load()
    assert "Beast.yaml:1" in str(error.value)


def test_files_that_are_no_text_and_no_yaml_are_told_with_all_else(
    load: Callable[..., Mappings], tmp_path: Path
) -> None:
    (tmp_path / "Beast.yaml").write_bytes(b"target: Beast\ndecision: caf\xe9\n")
    with pytest.raises(ConfigurationError, match="2 things are wrong") as error:
        load(species=SPECIES + "CAT,x,true\n")
    assert "the file is not UTF-8\n" in str(error.value)
    assert "Beast.yaml:2" in str(error.value)
    assert "species.csv:4" in str(error.value)


def test_a_table_cannot_be_mapped_and_archived_only(load: Callable[..., Mappings]) -> None:
    with pytest.raises(ConfigurationError, match="pet is mapped as well as only archived") as error:
        load(archived=ARCHIVED + "  pet: no\n  tooy: no\n")
    assert "archived.yaml:3" in str(error.value)
    assert "unknown legacy table 'tooy'\n" in str(error.value)
    assert "did you mean 'toy'?" in str(error.value)


def test_lineage_names_what_a_transform_looks_at(load: Callable[..., Mappings]) -> None:
    mappings = load(MAPPING.replace("{ from: name }", "{ from: name, uses: [species.tame, keeper] }"))
    assert column_lineage(mappings.for_target("Animal"), "zoo")["name"] == [
        (("zoo", "legacy", "pet"), "name"),
        (("zoo", "mapping", "species"), "tame"),
        (("zoo", "mapping", "keeper"), "target_id"),
    ]


def test_what_conditions_ask_of_is_lineage_and_no_reason_to_mask(load: Callable[..., Mappings]) -> None:
    text = MAPPING.replace("{ from: name }", "{ from: name, only: { column: born, is: given } }")
    mapping = load(text).for_target("Animal")
    pet = ("zoo", "legacy", "pet")
    assert column_lineage(mapping, "zoo", legacy={"pet": PET})["name"] == [(pet, "name"), (pet, "born")]
    assert value_origins(mapping)["name"] == {("pet", "name")}
    assert value_origins(mapping, ["toy"]) == {}


def test_what_a_column_is_made_of_is_told_in_words(load: Callable[..., Mappings]) -> None:
    more = """\
      tame: { constant: true }
      diet: { constant: null, note: nobody knows }
    dropped:"""
    flat = "{ from: kind, transform: text, when: { decision: shape, option: flat } }"
    text = MAPPING.replace("    dropped:", more).replace("{ from: name }", "{ from: name, by: expand }")
    text = text.replace("    columns:", "    expand: tidy\n    columns:").replace(
        '{ from: born, transform: timestamp, with: { invalid: "null" } }', flat
    )
    text = text.replace('pet_id: "new ids"', 'pet_id: "new ids"\n      born: "unsure"')
    descriptions = column_descriptions(load(text).for_target("Animal"))
    assert descriptions["name"] == "pet.name, by the flow's expand function"
    assert descriptions["born"] == "pet.kind by transform text (only under shape: flat)"
    assert descriptions["tame"] == "always True"
    assert descriptions["diet"] == "always NULL. nobody knows"


def test_a_target_without_a_mapping_is_told(load: Callable[..., Mappings]) -> None:
    with pytest.raises(ConfigurationError, match="no mapping file says how Robot is made"):
        load().for_target("Robot")


def test_a_table_that_goes_nowhere_is_told(load: Callable[..., Mappings]) -> None:
    with pytest.raises(ConfigurationError, match="legacy table toy goes nowhere"):
        load(archived="archived: {}\n")


@pytest.mark.parametrize(
    ("species", "line", "what"),
    [
        (SPECIES + "CAT ,x,true\n", 4, "the key 'CAT ' stands here twice (first in line 2)"),
        (SPECIES + "cow,Bos taurus\n", 4, "the row has 2 fields, the header 3"),
        ("", 1, "the value map is empty"),
        ("kind,species,\n", 1, "the header has an empty, padded or doubled name"),
        ("kind,species,kind\n", 1, "the header has an empty, padded or doubled name"),
        (SPECIES + " ,x,true\n", 4, "the key is empty"),
        (SPECIES + 'cow,"Bos" taurus,true\n', 4, "not valid CSV"),
        (SPECIES + 'cow,"Bos taurus,true\nsow,Sus,true\n', 4, "not valid CSV"),
        (SPECIES + 'cow,"Bos\ntaurus ",true\n', 5, "has blanks around it"),
        (SPECIES + "cow,,true\n", 4, "species cannot be NULL, and species is empty here"),
    ],
)
def test_a_broken_value_map_is_told_with_its_line(
    load: Callable[..., Mappings], species: str, line: int, what: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(species=species)
    assert what in str(error.value)
    assert f"species.csv:{line}" in str(error.value)


def test_a_value_map_gives_booleans_only_where_all_are(load: Callable[..., Mappings]) -> None:
    tame = MAPPING.replace("    dropped:", "      tame: { from: kind, value_map: species, output: tame }\n    dropped:")
    load(tame, species="\ufeff" + SPECIES)
    with pytest.raises(ConfigurationError, match="tame is 'TRUE', and tame a boolean") as error:
        load(tame, species=SPECIES + "cow,Bos taurus,TRUE\n")
    assert "species.csv:4" in str(error.value)
    assert load(species="kind,species,tame\ncat,Felis catus,\n").value_maps["species"].rows() == [
        ("cat", "Felis catus", None)
    ]


def test_the_shipped_json_schema_is_the_one_of_the_code() -> None:
    shipped = json.loads((MAPPINGS_DIR.parent / "mapping.schema.json").read_text())
    assert shipped == mapping_schema()


def test_every_function_that_can_be_named_is_named_in_a_mapping() -> None:
    text = "".join(path.read_text() for path in MAPPINGS_DIR.glob("*.yaml"))
    unnamed = [name for name in FUNCTIONS if name not in text]
    assert unnamed == []
