"""What a column mapping file may say. The JSON Schema that editors complete it with is made from these classes."""

from typing import Annotated, Any, Literal

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
    """The column is filled only under this option of a decision; else it stays NULL."""

    decision: str = Field(description="key of a decision of `decisions.yaml`")
    option: str = Field(description="one of its options")


_BELONGS_TO = {
    "with_": ("transform",),
    "output": ("value_map",),
    "exact": ("value_map",),
    "missing": ("value_map", "crosswalk"),
    "allow_null": ("value_map", "crosswalk"),
    "type": ("constant",),
}
"""Settings of a column that only some ways of making it have."""


class ColumnMapping(_Strict):
    """How one column is made: a constant, a transform, a value map, a crosswalk, or a function of the flow (`by`)."""

    from_: Names = Field(
        (), alias="from", description="legacy columns it comes from; `table.column` for another table's"
    )
    input: str | None = Field(None, description="the shaped column that is read, where it is not the legacy one")
    constant: StrictStr | StrictInt | StrictBool | None = Field(None, description="the same value for every row")
    type: str | None = Field(
        None, description="type of a constant's column that the declaration of the target does not know"
    )
    transform: str | None = Field(None, description="name of a transform")
    with_: dict[str, Any] = Field({}, alias="with", description="settings of the transform")
    value_map: str | None = Field(
        None, description="name of a value map (mappings/<system>/<name>.csv); its first column is the key"
    )
    output: str | None = Field(None, description="column of the value map that gives the value")
    exact: bool = Field(False, description="the text must be as the value map lists it, blanks and case included")
    crosswalk: str | None = Field(None, description="name of a crosswalk: legacy id to target id")
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
    note: str | None = Field(None, description="a remark for the mapping book")

    @model_validator(mode="after")
    def _one_way(self) -> "ColumnMapping":
        ways = [name for name in ("transform", "value_map", "crosswalk", "by") if getattr(self, name) is not None]
        ways += ["constant"] if "constant" in self.model_fields_set else []
        if len(ways) > 1:
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


class SourceMapping(_Strict):
    """What one legacy table gives to the target, column by column."""

    shape: str | None = Field(None, description="function that shapes rows before the column mapping applies")
    expand: str | None = Field(None, description="function that makes several rows of one after it")
    merge: str | None = Field(None, description="function that makes one row of all that go to the same target row")
    columns: dict[str, ColumnMapping] = Field({}, description="target column: how it is made")
    helpers: dict[str, ColumnMapping] = Field(
        {}, description="values that functions of the flow need, checked like columns"
    )
    dropped: dict[str, str] = Field({}, description="legacy column: why it goes nowhere")
    undecided: dict[str, str] = Field(
        default={}, description="legacy column that nobody has said a way for yet: what is known; keeps a cutover back"
    )


class TargetMapping(_Strict):
    """The mapping of one target model."""

    target: str = Field(description="the model, which the file is named after")
    decision: str = Field(description="area and number of the decisions of the plan, as in `A8 #1, #7`")
    sources: dict[str, SourceMapping] = Field(description="legacy table: what it gives")
    undecided: dict[str, str] = Field(
        default={},
        description="target column that nobody has said how to fill: what is known; keeps a cutover back",
    )


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
