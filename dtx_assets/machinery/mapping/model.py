"""What a column mapping file may say. The JSON Schema that editors complete it with is made from these classes."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import polars as pl
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class When(_Strict):
    """What it stands at counts only under this option of a decision, or one of these."""

    decision: str = Field(description="key of a decision of `decisions.yaml`")
    option: Names = Field(description="one of its options, or several")

    def __str__(self) -> str:
        return f"{self.decision}: {' or '.join(self.option)}"


def as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Scalar = StrictStr | StrictInt | StrictBool | None
Scalars = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(as_list),
    WithJsonSchema(
        {
            "anyOf": [
                *({"type": kind} for kind in ("string", "integer", "boolean", "null")),
                {"type": "array", "items": {}},
            ]
        }
    ),
]


def _wrong_pattern(pattern: str) -> str:
    """What is wrong with a regular expression, empty where nothing is: Rust knows fewer than Python does."""
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        said = [line for line in str(error).splitlines() if line.startswith("error: ")]
        return said[0].removeprefix("error: ") if said else "it cannot be read"
    return ""


class Condition(_Strict):
    """What is asked of one column of a row."""

    column: str | None = Field(None, description="a column of the legacy table, or one that the shape function adds")
    value: str | None = Field(None, description="a column or helper of this mapping, as it was made")
    is_: Literal["given", "missing", "filled", "blank"] | None = Field(
        None,
        alias="is",
        description="`missing` is NULL, `given` is anything else; `blank` is NULL or nothing but white space, `filled`"
        " is anything else",
    )
    equals: Scalars = Field(
        (),
        description="a value or several, one of which it must be: a text is compared without case and the blanks "
        "around it, a number as an integer",
    )
    other_than: Scalars = Field((), description="a value or several, none of which it may be")
    exact: bool = Field(False, description="texts are compared as they are, blanks and case included")
    matches: str | None = Field(
        None, description="a regular expression that is found in its text, in the syntax of Rust; never in NULL"
    )
    unreadable_as: Literal["date", "time", "integer"] | None = Field(
        None, description="it is not NULL, and cannot be read as `date`, `time` or `integer` as transforms read them"
    )

    asks: ClassVar[tuple[str, ...]] = ("is_", "equals", "other_than", "matches", "unreadable_as")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "Condition":
        if (self.column is None) == (self.value is None):
            raise ValueError("asks of no column, or of two; give one of `column` and `value`")
        if len(set(self.asks) & self.model_fields_set) != 1:
            *some, last = (f"`{name.rstrip('_')}`" for name in self.asks)
            raise ValueError(f"asks nothing, or several things; give one of {', '.join(some)} and {last}")
        if self.matches is not None and (problem := _wrong_pattern(self.matches)):
            raise ValueError(f"{self.matches!r} is no regular expression: {problem}; mend it")
        if self.exact and not any(isinstance(each, str) for each in (*self.equals, *self.other_than)):
            raise ValueError("`exact` says nothing here; it belongs to a text, remove it")
        return self


class OneOrMore:
    """Lets one entry stand where a list of them does, in files and in the JSON Schema."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        listed = handler(core)
        return {"anyOf": [listed["items"], listed]}


Conditions = Annotated[tuple[Condition, ...], BeforeValidator(as_list), OneOrMore()]


_BELONGS_TO = {
    "with_": ("transform",),
    "output": ("value_map",),
    "exact": ("value_map",),
    "missing": ("value_map", "crosswalk"),
    "allow_null": ("value_map", "crosswalk"),
    "type": ("constant",),
}
"""Settings of a column that only some ways of making it have."""


def decision_of(setting: Any) -> str | None:
    """The decision whose chosen option a setting is, where it names one."""
    return str(setting["decision"]) if isinstance(setting, dict) and set(setting) == {"decision"} else None


class ColumnMapping(_Strict):
    """How one column is made: a constant, a transform, a value map, a crosswalk, or a function of the flow (`by`)."""

    from_: Names = Field(
        (), alias="from", description="legacy columns it comes from; `table.column` for another table's"
    )
    input: Names = Field(
        (),
        description="what is read where it is not the legacy columns alone: shaped ones, `parent.<column>` of the row"
        " that it belongs to, `followed.<column>` of the part that `follows` names",
    )
    constant: StrictStr | StrictInt | StrictBool | None = Field(None, description="the same value for every row")
    type: str | None = Field(
        None, description="type of a constant's column that the declaration of the target does not know"
    )
    transform: str | None = Field(None, description="name of a transform")
    with_: dict[str, Any] = Field(
        {},
        alias="with",
        description="settings of the transform; `{decision: <key>}` is the chosen option of a decision",
    )
    value_map: str | None = Field(
        None, description="name of a value map (mappings/<system>/<name>.csv); its first column is the key"
    )
    output: str | None = Field(None, description="column of the value map that gives the value")
    exact: bool = Field(False, description="the text must be as the value map lists it, blanks and case included")
    crosswalk: str | None = Field(
        None, description="name of a crosswalk: legacy id to target id; beside a transform, the one that it looks into"
    )
    cases: str | None = Field(
        None, description="name of a case table (mappings/<system>/<name>.cases.csv), whose first fitting line counts"
    )
    missing: Literal["reject", "null", "keep"] = Field(
        "reject",
        description="a value that is not listed: reject the row, write NULL (and count it), or keep it as it is",
    )
    allow_null: bool = Field(False, description="NULL stays NULL; else it counts as not listed")
    by: Literal["shape", "expand", "merge"] | None = Field(None, description="filled by that function of the source")
    uses: Names = Field(
        (), description="what else the transform or function reads: `<value map>.<column>`, or a crosswalk"
    )
    written: bool = Field(
        False, description="a helper that a function of the source writes: it must be text as a column must"
    )
    when: When | None = Field(None, description="the option under which the column is filled; else it stays NULL")
    only: Conditions = Field(
        (), description="what must hold of a row, all of it; else the value is NULL, and nothing is wrong with it"
    )
    note: str | None = Field(None, description="a remark for the mapping book")

    @model_validator(mode="after")
    def _one_way(self) -> "ColumnMapping":
        ways = [
            name for name in ("transform", "value_map", "crosswalk", "cases", "by") if getattr(self, name) is not None
        ]
        ways += ["constant"] if "constant" in self.model_fields_set else []
        if len(ways) > 1 and ways != ["transform", "crosswalk"]:
            raise ValueError(f"says {' and '.join(ways)}; keep one: a column is made in one way")
        if not ways and not self.from_:
            raise ValueError("says nothing about where the value comes from; give `from`, or a `constant`")
        if ways and ways != ["constant"] and not self.from_ and not self.input:
            raise ValueError(f"says {ways[0]} but not of which column; add `from: …`")
        if self.value_map and not self.output:
            raise ValueError("names a value map but not which column of it gives the value; add `output: …`")
        for setting, owners in _BELONGS_TO.items():
            if setting in self.model_fields_set and not set(owners) & set(ways or ["transform"]):
                shown = setting.rstrip("_")
                raise ValueError(f"`{shown}` says nothing here; it belongs to {' or '.join(owners)}, remove it")
        return self

    def settings(self, chosen: Mapping[str, str]) -> dict[str, Any]:
        """The settings of the transform under the chosen options."""
        named = {"crosswalk": self.crosswalk} if self.transform and self.crosswalk else {}
        return named | {
            name: chosen[decision] if (decision := decision_of(value)) else value for name, value in self.with_.items()
        }

    @property
    def decisions(self) -> list[str]:
        """The decisions that say how the column is made, besides `when`."""
        return [decision for value in self.with_.values() if (decision := decision_of(value))]

    @property
    def is_constant(self) -> bool:
        return "constant" in self.model_fields_set

    def located(self, part: str) -> tuple[str, str]:
        """The table and the column that an entry of `from` names; no table is the source itself."""
        table, _, column = part.rpartition(".")
        return table, column

    @property
    def local(self) -> list[str]:
        """The columns of the source itself among `from`."""
        return [part for part in self.from_ if not self.located(part)[0]]


class DropRule(_Strict):
    """Rows that are left out. Rules of one name are told as one; the first that fits gives the name."""

    rule: str = Field(description="its name, in the accounting and where people look")
    only: Conditions = Field((), description="what must hold of a row, all of it; nothing under `when` alone")
    when: When | None = Field(None, description="the option under which the rule counts")


Reason = Literal[
    "unmapped_value",
    "unparseable",
    "orphan_reference",
    "duplicate_key",
    "no_matching_row",
    "invalid_email",
    "unsafe_path",
    "file_missing",
    "schema_violation",
]


class RejectRule(_Strict):
    """Rows that are rejected for what their values say together."""

    reason: Reason = Field(description="the reason code")
    only: Conditions = Field(description="what must hold of a row, all of it")
    column: str = Field("", description="the legacy column that is told to be wrong")
    detail: str = Field(description="a sentence for whoever mends it; `{column}` is what the row has there")
    when: When | None = Field(None, description="the option under which the rule counts")


class Duplicates(_Strict):
    """Of rows that share a key the last one counts; the others are rejected as `duplicate_key`."""

    key: Names = Field(description="columns and helpers of this mapping")
    order: Names = Field(
        (),
        description="what sorts the rows before their own order does: columns, helpers, or else "
        "legacy columns by their kind",
    )
    column: str = Field("", description="the legacy column that is told to be wrong")
    detail: str = Field(description="a sentence that says which row counts")
    references_follow: When | None = Field(
        None, description="the option under which what names a row that does not count names the one that does"
    )


class Existing(_Strict):
    """Rows of the target that this migration did not write, and that have the key of a row that is to be written.

    Such a row is rejected as `target_conflict` before anything is prepared that refers to it.
    """

    key: str = Field(description="the column that both have")
    rows: str = Field(description="the look-up with all columns of those rows, as text")
    adopt: When | None = Field(
        None, description="the option under which the row of the target is taken for it, as it stands"
    )
    column: str = Field("", description="the legacy column that is told to be wrong")
    detail: str = Field(description="a sentence for whoever mends it")


class United(_Strict):
    """Rows that go to one row of the target, of whatever owners: all are migrated, the last one gives the values."""

    order: Names = Field(description="what sorts them: columns, helpers, or else legacy columns by their kind")


class AddedTo(_Strict):
    """Rows whose natural key no migrated row of another source of this target has are rejected as `no_matching_row`."""

    source: str = Field(description="a source that stands before this one in the file")
    column: str = Field("", description="the legacy column that is told to be wrong")
    detail: str = Field(description="a sentence for whoever mends it; `{column}` is what the row has there")
    reason: Reason = Field("no_matching_row", description="the reason code")


class TakenBy(_Strict):
    """Rows whose natural key a sound row of another source of this target has are rejected as `duplicate_key`."""

    source: str = Field(description="a source that stands before this one in the file")
    column: str = Field("", description="the legacy column that is told to be wrong")
    detail: str = Field(description="a sentence for whoever mends it")


class PointsTo(_Strict):
    """A legacy table whose rows a generic key may name here."""

    table: str = Field(description="the legacy table")
    when: When | None = Field(None, description="the option under which it may")


class Part(_Strict):
    """What tells the target rows of one legacy row apart in `migration.mapping`."""

    value: Names = Field((), description="columns and helpers of this mapping; several are joined by `/`")
    constant: str | None = Field(None, description="the same for every row")
    called: str = Field("part", description="what such a part is called where people look")
    personal: bool | None = Field(
        None,
        description="whether it is masked where people look; left out: where a legacy column that it is made from is"
        " personal",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "Part":
        if bool(self.value) == (self.constant is not None):
            raise ValueError("names no part, or two; give one of `value` and `constant`")
        return self


class Followed(_Strict):
    """A part of another model that the same legacy row gives."""

    model: str = Field(description="a model of the same flow, which gives several rows of one")
    part: str = Field(description="the name of its part")


class RowMapping(_Strict):
    """One of several target rows that a legacy row gives. What is wrong with it concerns it alone."""

    part: str = Field(description="its name in `migration.mapping`")
    only: Conditions = Field((), description="what must hold of a legacy row to give this one, all of it")
    follows: Followed | None = Field(
        None, description="the part that this row stands and falls with: there is one where it is, sound where it is"
    )
    when: When | None = Field(None, description="the option under which there are such rows")
    columns: dict[str, ColumnMapping] = Field(
        {}, description="target column: how it is made, beside those of all parts"
    )
    helpers: dict[str, ColumnMapping] = Field({}, description="values that rules of this part ask of")
    require: Names = Field((), description="legacy columns without whose value this row is rejected")
    drop: tuple[DropRule, ...] = Field((), description="rules by which there is no such row, whatever is wrong with it")
    reject: tuple[RejectRule, ...] = Field((), description="rules by which this row is rejected")


class Members(_Strict):
    """Rows of a junction, one a member of an array of ids in a document.

    The pairs that several tables name are united: each is one row, and each document that names it leads to it. A
    document is dropped as `identical`, then as `empty` where no member says anything, then by the rules of `drop`. It
    is rejected where its own id is none, where a later one has the same, or where its own row is not migrated. Else
    null and blank members are left out (`null_member`), and so is an id that was there before (`duplicate_member`); a
    value that is no array is one of one (`scalar_to_array`). A member that is no id, or that of no migrated document,
    is a bad one: each is rejected as a part of the document, and the document itself where no member is left.
    """

    field: str = Field(description="the legacy column with the array, read as `json`")
    own: str = Field(description="the target column of the document's own id")
    other: str = Field(description="the target column of the id that a member is")
    names: str = Field(description="the crosswalk of the ids that members are")
    of: str | None = Field(
        None, description="the crosswalk of the documents' own ids. Left out: the one that is called as their table"
    )
    key: str = Field("_id", description="the legacy column with the document's own id")

    def columns(self, table: str) -> dict[str, ColumnMapping]:
        """How the two target columns are made of a legacy table, as a column mapping would say it."""
        return {
            self.own: ColumnMapping.model_validate({"from": self.key, "crosswalk": self.of or table}),
            self.other: ColumnMapping.model_validate(
                {"from": self.field, "crosswalk": self.names, "note": "each member of the array is looked up"}
            ),
        }


class SourceMapping(_Strict):
    """What one legacy table gives to the target: rows by its functions and rules, values column by column.

    It is done in this order: `only`, `shape`, `columns` and `helpers`, `drop`, `require`, `reject`, `duplicate_rows`,
    `rows` or `expand`, `added_to`, what the target can hold, `duplicates`, `taken_by`, `united` or `merge`.
    """

    only: Conditions = Field(
        (),
        description="what must hold of a row to count towards this target, all of it; every other row counts towards"
        " another target of the flow",
    )
    only_read: bool = Field(
        False, description="whether its rows give nothing: functions of other sources read them, none is accounted for"
    )
    shared: bool = Field(False, description="whether rows that `only` leaves out count towards targets of other flows")
    points_to: tuple[PointsTo, ...] = Field(
        (),
        description="what its generic key may name; any other table is an `unmapped_value`. Left out: any listed one",
    )
    counted: bool = Field(
        True,
        description="whether its rows are accounted for here; else another target counts them, they only give rows, and"
        " what is wrong with one of those is told as a part of the legacy row",
    )
    when: When | None = Field(None, description="the option under which this table gives anything to the target")
    owner: str | None = Field(
        None,
        description="the column or helper whose crosswalk gives the owner; rows of one owner are prepared "
        "together. Left out: the first one with a crosswalk",
    )
    shape: str | None = Field(None, description="function that shapes rows before the column mapping applies")
    columns: dict[str, ColumnMapping] = Field({}, description="target column: how it is made")
    helpers: dict[str, ColumnMapping] = Field(
        {}, description="values that functions and rules of the flow need, checked like columns"
    )
    members: Members | None = Field(
        None, description="an array of ids, each of which is a row of a junction; nothing but `drop` goes with it"
    )
    drop: tuple[DropRule, ...] = Field((), description="rules that leave rows out")
    require: Names = Field((), description="legacy columns without whose value a row is rejected")
    reject: tuple[RejectRule, ...] = Field((), description="rules that reject rows, besides what the columns do")
    duplicate_rows: Duplicates | None = Field(
        None, description="which of several sound rows counts, before `rows` or `expand` make parts of them"
    )
    rows: tuple[RowMapping, ...] = Field((), description="several target rows of one legacy row")
    expand: str | None = Field(
        None, description="function that makes several rows of one, or values of several columns"
    )
    no_rows: str | None = Field(
        None,
        description="the rule that drops a legacy row of which `rows` or `expand` make none; none where another target"
        " counts the rows",
    )
    duplicates: Duplicates | None = Field(
        None,
        description="which of several rows counts. Left out: the last one with the natural key of the target, "
        "where the mapping makes all its columns and no function does",
    )
    added_to: AddedTo | None = Field(None, description="another source, to whose rows those of this one add")
    united: United | None = Field(
        None, description="which of several rows gives the values of a target row that all of them go to"
    )
    existing: Existing | None = Field(None, description="rows of the target that are there already")
    taken_by: TakenBy | None = Field(None, description="another source, whose rows go before those of this one")
    merge: str | None = Field(
        None, description="function that makes one row of all that go to the same target row, of all sources"
    )
    id: str | None = Field(None, description="the helper that holds the id of the row that is updated")
    part: Part | None = Field(None, description="the part that a target row is of its legacy row")
    uses: Names = Field((), description="what else functions of this source read: value maps, crosswalks, references")
    decisions: Names = Field((), description="decisions that functions of this source read")
    cutover_time: Annotated[tuple[When, ...], BeforeValidator(as_list), OneOrMore()] = Field(
        (), description="the options under which functions of this source read the instant that counts as now"
    )
    dropped: dict[str, str] = Field({}, description="legacy column: why it goes nowhere")
    undecided: dict[str, str] = Field(
        default={}, description="legacy column that nobody has said a way for yet: what is known; keeps a cutover back"
    )

    @property
    def is_run(self) -> bool:
        """Whether it says something of rows, besides columns and what functions are called."""
        return bool(self.model_fields_set - {"columns", "helpers", "dropped", "shape", "expand", "merge"})

    @property
    def _entries(self) -> "tuple[SourceMapping | RowMapping, ...]":
        return (self, *self.rows)

    @property
    def filled(self) -> tuple[tuple[str, ColumnMapping], ...]:
        """The target columns with how they are made, those of `rows` included; a name may come several times."""
        return tuple(pair for entry in self._entries for pair in entry.columns.items())

    @property
    def made(self) -> tuple[tuple[str, ColumnMapping], ...]:
        """The same, and the helpers."""
        return tuple(pair for entry in self._entries for pair in (*entry.columns.items(), *entry.helpers.items()))

    def columns_of(self, part: str) -> dict[str, ColumnMapping]:
        """The target columns of rows that are that part of their legacy row, with how they are made."""
        return self.columns | {
            name: column for row in self.rows if row.part == part for name, column in row.columns.items()
        }

    @property
    def asked(self) -> tuple[Condition, ...]:
        """All that is asked of its rows, to count, to be dropped or rejected, to give a part or a value."""
        entries = (self.only, *(rule.only for rule in self.rules), *(row.only for row in self.rows))
        return tuple(each for only in (*entries, *(column.only for _, column in self.made)) for each in only)

    @property
    def rules(self) -> tuple[DropRule | RejectRule, ...]:
        found: list[DropRule | RejectRule] = []
        for entry in self._entries:
            found += [*entry.drop, *entry.reject]
        return tuple(found)


WITH_MEMBERS = {"members", "drop", "when", "dropped", "undecided"}
"""What a source may say that names members."""


class TargetMapping(_Strict):
    """The mapping of one target model."""

    target: str = Field(description="the model, which the file is named after")
    decision: str = Field(description="area and number of the decisions of the plan, as in `A8 #1, #7`")
    flow: str | None = Field(
        None,
        description="name of the flow; files that name one are prepared together. Left out: the model, in small"
        " letters",
    )
    description: str = Field("", description="what becomes of what, in a sentence")
    when: When | None = Field(None, description="the option under which anything of this file is done")
    together: bool = Field(
        False, description="whether all rows of the flow are prepared in one batch: any of them may compete"
    )
    parent: str | None = Field(
        None,
        description="the model whose rows those of the same legacy row refer to: where that one was rejected they "
        "are rejected as `parent_rejected`, where it was dropped they are dropped by the same rule",
    )
    sources: dict[str, SourceMapping] = Field(description="legacy table: what it gives")
    undecided: dict[str, str] = Field(
        default={},
        description="target column that nobody has said how to fill: what is known; keeps a cutover back",
    )

    @model_validator(mode="after")
    def _columns_of_members(self) -> "TargetMapping":
        """What members say of the columns of a junction stands with it as if it were said column by column."""
        said = {table: source for table, source in self.sources.items() if source.members}
        for table, source in said.items():
            beside = sorted(source.model_fields_set - WITH_MEMBERS)
            if beside:
                raise ValueError(f"{table}: `{beside[0].rstrip('_')}` says nothing beside `members`; remove it")
        if said and len(said) < len(self.sources):
            other = next(table for table in self.sources if table not in said)
            raise ValueError(f"{other} names no `members`, and {next(iter(said))} does; say them of both")
        filled = {
            table: source.model_copy(update={"columns": source.members.columns(table)})
            for table, source in said.items()
            if source.members
        }
        return self.model_copy(update={"sources": {**self.sources, **filled}}) if filled else self


class ArchivedFile(_Strict):
    """Legacy tables that only go to the archive, each with the reason."""

    archived: dict[str, str] = Field(description="legacy table: why its rows go nowhere else")
    undecided: dict[str, str] = Field(
        default={}, description="legacy table of which nobody has said yet where its rows go: what is known"
    )


def mapping_schema() -> dict[str, Any]:
    """The JSON Schema of a column mapping file, shipped as `mappings/mapping.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TargetMapping.model_json_schema(by_alias=True),
        "title": "Column mapping of one target model",
    }
