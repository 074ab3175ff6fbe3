"""Bad mapping files, value maps and decisions: what stops everything before it starts."""

from functools import partial

from dtx_assets_tests.bad_inputs.case import Case, Refused
from dtx_assets_tests.bad_inputs.place import STATUS, Place

TITLE = "Mapping files, value maps, decisions"
OVERRIDE, META, TYPES = "ManualOverride.yaml", "AccountMeta.yaml", "coverage_type.csv"


def edited(name: str, file: str, old: str, new: str, what: str, line: int, remedy: str) -> Refused:
    plant = partial(Place.mapping, file=file, old=old, new=new)
    return Refused(name, STATUS, plant, 2, what, f"{{mappings}}/{file}:{line}", remedy)


def override(name: str, content: str | bytes, what: str, line: int, remedy: str) -> Refused:
    plant = partial(Place.decisions, content=content)
    return Refused(name, STATUS, plant, 2, what, f"{{directory}}/decisions.yaml:{line}", remedy)


CASES: tuple[Case, ...] = (
    edited("an unknown key", META, "    merge: account_values", "    merges: account_values", "unknown key 'merges'", 13, "did you mean 'merge'?"),
    edited("a key that stands there twice", META, "      key: { from: keyword }\n", "      key: { from: keyword }\n      key: { from: keyword }\n", "duplicate key", 10, "mend the line"),
    edited("not YAML", META, "      key: { from: keyword }\n", "      key: { from: keyword\n", "not valid YAML", 10, "mend the line"),
    edited("an empty mapping file", META, open_text := "# yaml-language-server: $schema=../mapping.schema.json\n", "", "", 1, ""),
)
