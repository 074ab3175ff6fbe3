"""Bad mapping files, value maps and decisions: what stops everything before it starts."""

from functools import partial

from dtx_assets.dtx.system import MAPPINGS_DIR
from dtx_assets_tests.bad_inputs.case import Case, Refused
from dtx_assets_tests.bad_inputs.place import STATUS, Place

TITLE = "Mapping files, value maps, decisions"
OVERRIDE, META, TYPES, ARCHIVED = "ManualOverride.yaml", "AccountMeta.yaml", "coverage_type.csv", "archived.yaml"
TABLES, CHECKS = "tables.yaml", "checks.yaml"
KEY = "      key: { from: keyword }\n"
FIRST = "GL,GeneralLiability,,\n"
LAST = '      src: "where'
PLAIN = "the file does not hold a mapping of names to values"


def whole(file: str) -> str:
    return (MAPPINGS_DIR / file).read_text()


def edited(name: str, file: str, old: str, new: str, what: str, line: int, remedy: str) -> Refused:
    plant = partial(Place.mapping, file=file, old=old, new=new)
    return Refused(name, STATUS, plant, 2, what, f"{{mappings}}/{file}:{line}", remedy)


def override(name: str, content: str | bytes, what: str, line: int, remedy: str) -> Refused:
    plant = partial(Place.decisions, content=content)
    return Refused(name, STATUS, plant, 2, what, f"{{directory}}/decisions.yaml:{line}", remedy)


CASES: tuple[Case, ...] = (
    edited(
        "an unknown key", META, "merge: account", "merges: account", "unknown key 'merges'", 13, "did you mean 'merge'?"
    ),
    edited("a key that stands there twice", META, KEY, KEY + KEY, 'found duplicate key "key"', 18, "mend the line"),
    edited(
        "a brace that is not closed",
        META,
        KEY,
        KEY.replace(" }", ""),
        "not valid YAML: did not find expected",
        18,
        "mend the line",
    ),
    edited("a tab in YAML", META, KEY, "\t" + KEY, "not valid YAML: found character", 17, "mend the line"),
    edited("an empty mapping file", META, whole(META), "", PLAIN, 1, "see the examples beside it"),
    edited("a list for a mapping file", META, whole(META), "- a\n", PLAIN, 1, "see the examples beside it"),
    edited(
        "a legacy column that does not exist",
        META,
        "{ from: keyword }",
        "{ from: keywort }",
        "keyword has no column 'keywort'",
        17,
        "did you mean 'keyword'?",
    ),
    edited(
        "an unknown transform",
        META,
        "transform: form_field_key",
        "transform: form_field_keys",
        "unknown transform 'form_field_keys'",
        35,
        "did you mean 'form_field_key'?",
    ),
    edited(
        "an unknown setting of a transform",
        OVERRIDE,
        '{ "null": "" }',
        '{ "nul": "" }',
        "trimmed_end has no setting 'nul'",
        34,
        "did you mean 'null'?",
    ),
    edited(
        "an unknown value map",
        OVERRIDE,
        "value_map: coverage_type, output: coverage_type",
        "value_map: coverage_typ, output: coverage_type",
        "unknown value map 'coverage_typ'",
        31,
        "did you mean 'coverage_type'?",
    ),
    edited(
        "an unknown column of a value map",
        OVERRIDE,
        "output: coverage_subtype",
        "output: coverage_subtipe",
        "value map coverage_type has no column 'coverage_subtipe'",
        32,
        "did you mean 'coverage_subtype'?",
    ),
    edited(
        "an unknown crosswalk",
        OVERRIDE,
        "crosswalk: requirements,",
        "crosswalk: requirement,",
        "unknown crosswalk 'requirement'",
        30,
        "did you mean 'requirements'?",
    ),
    edited(
        "an unknown function",
        OVERRIDE,
        "shape: groups_of_vendors",
        "shape: groups_of_vendor",
        "unknown shape function 'groups_of_vendor'",
        11,
        "did you mean 'groups_of_vendors'?",
    ),
    edited(
        "an unknown target",
        OVERRIDE,
        "target: ManualOverride",
        "target: ManualOverrides",
        "unknown target model 'ManualOverrides'",
        3,
        "did you mean 'ManualOverride'?",
    ),
    edited(
        "an unknown target column",
        OVERRIDE,
        "      reason: {",
        "      raison: {",
        "ManualOverride has no column 'raison'",
        34,
        "did you mean 'reason'?",
    ),
    edited(
        "a target column that nothing fills",
        "AccountEmail.yaml",
        "      email_type: { constant: reviewer }\n",
        "",
        "AccountEmail.email_type must have a value and nothing fills it",
        6,
        "say where it comes from, give it a constant",
    ),
    edited(
        "a legacy column that nothing accounts for",
        OVERRIDE,
        whole(OVERRIDE)[whole(OVERRIDE).index(LAST) :],
        "",
        "exemption.src is not accounted for",
        7,
        "use it in a column's `from`, or list it under `dropped` with the reason",
    ).at("DocRequirement.yaml"),
    edited(
        "a legacy column that is used and dropped",
        OVERRIDE,
        LAST,
        f'      item_type: "no"\n{LAST}',
        "exemption.item_type is both used and dropped",
        43,
        "take it out of `dropped`",
    ),
    edited(
        "a table that is mapped and only archived",
        ARCHIVED,
        "  work_log:",
        '  keyword: "too"\n  work_log:',
        "keyword is mapped as well as only archived",
        11,
        "take it out of `archived`",
    ),
    edited(
        "a legacy table that goes nowhere",
        ARCHIVED,
        "  work_log:",
        "  work_logs:",
        "legacy table work_log goes nowhere",
        2,
        "map it, or list it under `archived` with the reason",
    ),
    edited(
        "a value map with a key that stands there twice",
        TYPES,
        FIRST,
        f"{FIRST} gl ,GeneralLiability,,\n",
        "the key ' gl ' stands here twice (first in line 2)",
        3,
        "remove one of the two",
    ),
    edited(
        "a value map with an empty target",
        TYPES,
        FIRST,
        "GL,,,\n",
        "coverage_type cannot be NULL, and coverage_type is empty here",
        2,
        "fill it in",
    ),
    edited(
        "a value map with an empty key",
        TYPES,
        FIRST,
        FIRST.removeprefix("GL"),
        "the key is empty",
        2,
        "give item_name a value, or remove the row",
    ),
    edited(
        "a value map with a ragged row",
        TYPES,
        FIRST,
        "GL,GeneralLiability\n",
        "the row has 2 fields, the header 4",
        2,
        "quote fields that hold a comma",
    ),
    edited(
        "a value map with an open quote",
        TYPES,
        FIRST,
        f'{FIRST}"{FIRST}',
        "not valid CSV: unexpected end of data",
        3,
        "mend the quotes of the field",
    ),
    edited("an empty value map", TYPES, whole(TYPES), "", "the value map is empty", 1, "give it a header line"),
    edited(
        "an unknown option chosen in decisions.yaml",
        "decisions.yaml",
        "chosen: incremental",
        "chosen: incrementel",
        "decision 'timing_semantics' has no option 'incrementel'",
        24,
        "did you mean 'incremental'?",
    ),
    edited(
        "a name that no dataset can have",
        TABLES,
        "  form_field:\n",
        "  form/field:\n",
        "'form/field' names no file, and so no dataset of the lake",
        134,
        "declare it under another name, which a view in the source may have",
    ),
    edited(
        "two names that would be one asset",
        TABLES,
        "  form_field:\n",
        "  key_word_c86909:\n    columns: [id]\n  key-word:\n",
        "'key_word_c86909' and 'key-word' would be one asset, key_word_c86909",
        136,
        "declare it under another name, which a view in the source may have",
    ),
    override(
        "an override: an unknown option",
        "keyword: account_meta\nenvelope: archived\n",
        "decision 'envelope' has no option 'archived'",
        2,
        "did you mean 'archive'?",
    ),
    override(
        "an override: an unknown decision",
        "envelop: archive\n",
        "there is no decision 'envelop' to choose",
        1,
        "did you mean 'envelope'?",
    ),
    override(
        "an override: aliases that multiply (billion laughs)",
        "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        + "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "aliases repeat more than 10,000 entries",
        4,
        "write out what is meant, in fewer entries",
    ),
    override(
        "an override: lists nested without end",
        "envelope: archive\nkeyword: " + "[" * 100_000,
        "entries are nested more than 50 deep",
        2,
        "write out what is meant, in fewer entries",
    ),
    edited(
        "a check of a column that does not exist",
        CHECKS,
        "{ column: ExemptReason, matches",
        "{ column: ExemptReasons, matches",
        "exemption has no column 'ExemptReasons'",
        40,
        "did you mean 'ExemptReason'?",
    ),
    edited(
        "a check of a value map that does not exist",
        CHECKS,
        "not_listed_in: exemption_status",
        "not_listed_in: exemption_state",
        "unknown value map 'exemption_state'",
        34,
        "did you mean 'exemption_status'?",
    ),
    edited(
        "a check of a table that does not exist",
        CHECKS,
        "  keyword:\n",
        "  keywords:\n",
        "unknown legacy table 'keywords'",
        131,
        "did you mean 'keyword'?",
    ),
    edited(
        "a check that asks two things of a column",
        CHECKS,
        "{ column: ExemptReason, matches",
        "{ column: ExemptReason, is: given, matches",
        "asks nothing, or several things",
        40,
        "give one of `is`, `equals`, `other_than`, `matches`, `unreadable_as`, `listed_in` and `not_listed_in`",
    ),
    override(
        "an override: a list for an option",
        "envelope: [archive]\n",
        "decision 'envelope' has no option ['archive']",
        1,
        "did you mean 'archive'?",
    ),
    override(
        "an override: a truth value for an option",
        "envelope: yes\n",
        "decision 'envelope' has no option 'yes'",
        1,
        "use one of: aggregate, archive, response_tracking",
    ),
    override(
        "an override: a decision twice",
        "envelope: archive\nenvelope: aggregate\n",
        'found duplicate key "envelope"',
        2,
        "mend the line",
    ),
    override("an override: an empty file", "", PLAIN, 1, "see the examples beside it"),
    override(
        "an override: latin-1", b"envelope: caf\xe9\n", "the file is not UTF-8", 1, "save it in the encoding UTF-8"
    ),
)
