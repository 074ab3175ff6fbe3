"""The choices of the plan as data: what was decided, what is open, who has to confirm it, and what a run overrides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.mapping.demonstration import Demonstration, read_demonstration
from dtx_assets.machinery.mapping.model import When


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decision(Strict):
    """One decision of the plan. Those without options are documented: there is nothing to choose."""

    key: str = Field(description="its name, in `when`, in flows and in the file that DTX_DECISIONS names")
    area: int = Field(description="the area of the plan")
    number: str = Field(description="its number or numbers there")
    title: str = Field(description="what is decided")
    text: str = Field(description="what each option means")
    status: Literal["open", "confirmed", "documented"] = Field(
        description="open keeps a cutover back until whoever is named has confirmed it; documented needs no one"
    )
    options: tuple[str, ...] = Field((), description="what can be chosen")
    chosen: str | None = Field(None, description="the option that a run takes")
    confirm_by: str | None = Field(None, description="who has to confirm it: its owner")
    blocking_action: str | None = Field(None, description="id of the action that it waits for")
    affects: tuple[str, ...] = Field((), description="the target models that it concerns")

    @property
    def numbers(self) -> set[tuple[str, str]]:
        """Area and number, of each of its numbers."""
        return {(str(self.area), number) for number in re.findall(r"\w+", self.number)}


class Action(Strict):
    """A pre-migration action of the plan; a blocking one stops a cutover while it is open."""

    id: str = Field(description="its name, as in `A8-1`")
    area: int = Field(description="the area of the plan")
    number: int = Field(description="its number there")
    text: str = Field(description="what has to be done, and by whom")
    blocking: bool = Field(description="whether it keeps a cutover back while it is open")
    status: Literal["open", "done"] = Field("open", description="whether it was done")
    affects: tuple[str, ...] = Field((), description="target models that it concerns, where no decision waits for it")
    owner: str | None = Field(
        None, description="who has to do it; left out: whoever confirms the decision that waits for it"
    )


class KnownIssue(Strict):
    """A data-quality issue that the plan knows."""

    id: str = Field(description="its name, as in `A8-K1`")
    area: int = Field(description="the area of the plan")
    number: int = Field(description="its number there")
    issue: str = Field(description="what is wrong with the legacy data")
    impact: str = Field(description="what comes of it")
    mitigation: str = Field(description="what is done about it")


class Asked(Strict):
    """What a cutover asks people; the answer is accepted by name, with a reason."""

    name: str = Field(description="its name, as it is accepted")
    text: str = Field(description="the question")
    when: When | None = Field(None, description="the option under which it is asked")
    owner: str | None = Field(None, description="who has to answer; left out: who answers for the system's tables")


class DecisionsFile(Strict):
    """All that the plan decides, asks for and knows."""

    decisions: tuple[Decision, ...] = Field(description="the decisions of the plan")
    actions: tuple[Action, ...] = Field((), description="what has to be done before the migration")
    known_issues: tuple[KnownIssue, ...] = Field((), description="what is known to be wrong with the data")
    questions: tuple[Asked, ...] = Field((), description="what a cutover asks people before it loads anything")


@dataclass(frozen=True)
class Decisions:
    """All decisions, and `chosen`: the option of each that has options, overrides applied."""

    entries: tuple[Decision, ...]
    actions: tuple[Action, ...]
    known_issues: tuple[KnownIssue, ...]
    chosen: Mapping[str, str]
    questions: tuple[Asked, ...] = ()
    demonstration: Demonstration | None = None
    """What stands for people who have said nothing, where somebody named such a file."""

    @property
    def open(self) -> tuple[Decision, ...]:
        return tuple(entry for entry in self.entries if entry.status == "open")

    def entry(self, key: str) -> Decision:
        return next(entry for entry in self.entries if entry.key == key)

    def owner_of(self, action: Action) -> str:
        """Who has to do an action: who is named, or whoever confirms the decision that waits for it."""
        waiting = (entry.confirm_by for entry in self.entries if entry.blocking_action == action.id)
        return action.owner or next(filter(None, waiting), "")

    def is_answered(self, question: str) -> bool:
        return bool(self.demonstration and question in self.demonstration.answered)

    def shown_by(self, said: Demonstration) -> "Decisions":
        """As if people had said what a demonstration says."""
        return replace(
            self,
            entries=tuple(
                entry.model_copy(update={"status": "confirmed"}) if entry.key in said.confirmed else entry
                for entry in self.entries
            ),
            actions=tuple(
                action.model_copy(update={"status": "done"}) if action.id in said.done else action
                for action in self.actions
            ),
            demonstration=said,
        )

    def named(self, text: str) -> tuple[Decision, ...]:
        """The decisions that a declaration such as `A8 #1, #7` names."""
        return tuple(entry for pair in numbers_in(text) for entry in self.entries if pair in entry.numbers)


def numbers_in(text: str) -> list[tuple[str, str]]:
    """Area and number of each decision that a declaration such as `A8 #1, #7` names."""
    area, found = "", []
    for named_area, number in re.findall(r"A(\d+)|#(\w+)", text):
        area = named_area or area
        if number:
            found.append((area, number))
    return found


def decisions_under(path: Path, system: str, override: Path | None, demonstration: Path | None) -> Decisions:
    """The decisions of a file, as a run takes them: with other choices, and as a demonstration has them."""
    decisions = load_decisions(path, override)
    if demonstration is None:
        return decisions
    return decisions.shown_by(read_demonstration(demonstration, system, decisions))


def load_decisions(path: Path, override: Path | None = None) -> Decisions:
    """The decisions of a file, with the choices of an override file (`{key: option}`) in place of its own.

    Raises ConfigurationError naming file and line for an unknown key or option, or a key that stands there twice.
    """
    findings = Findings()
    file = YamlFile(path)
    parsed = parse_model(file, DecisionsFile, findings)
    if parsed is None:
        findings.raise_if_any()
        raise AssertionError("a file that does not parse has findings")
    seen: set[str] = set()
    actions = [action.id for action in parsed.actions]
    for index, action in enumerate(actions):
        if action in actions[:index]:
            findings.add(
                f"action {action!r} stands here twice", file.where(["actions", index, "id"]), "remove one of the two"
            )
    for index, entry in enumerate(parsed.decisions):
        at: list[str | int] = ["decisions", index]
        if entry.key in seen:
            findings.add(f"decision {entry.key!r} stands here twice", file.where([*at, "key"]), "remove one of the two")
        seen.add(entry.key)
        if entry.chosen and not entry.options:
            findings.add(
                f"decision {entry.key!r} has nothing to choose from", file.where([*at, "chosen"]), "list its `options`"
            )
        if len(set(entry.options)) < len(entry.options):
            findings.add(
                f"an option of decision {entry.key!r} stands here twice",
                file.where([*at, "options"]),
                "remove one of the two",
            )
        if entry.status == "open" and not entry.confirm_by:
            findings.add(
                f"decision {entry.key!r} is open, and nobody is named to confirm it",
                file.where([*at, "status"]),
                "say who has to: `confirm_by: …`",
            )
        if entry.options and entry.chosen not in entry.options:
            findings.add(
                f"decision {entry.key!r} has no option {entry.chosen!r}",
                file.where([*at, "chosen"]),
                suggestion(str(entry.chosen), entry.options),
            )
        if entry.blocking_action and entry.blocking_action not in actions:
            findings.add(
                f"decision {entry.key!r} names an unknown action {entry.blocking_action!r}",
                file.where([*at, "blocking_action"]),
                suggestion(entry.blocking_action, actions),
            )
    options = {entry.key: entry.options for entry in parsed.decisions if entry.options}
    for index, asked in enumerate(parsed.questions):
        if asked.when and not set(asked.when.option) <= set(options.get(asked.when.decision, ())):
            findings.add(
                f"question {asked.name!r} is asked under an option that no decision has: {asked.when}",
                file.where(["questions", index, "when"]),
                suggestion(asked.when.decision, options),
            )
    chosen = {entry.key: entry.chosen for entry in parsed.decisions if entry.options and entry.chosen}
    if override is not None:
        chosen |= _overrides(override, parsed.decisions, findings)
    findings.raise_if_any()
    return Decisions(parsed.decisions, parsed.actions, parsed.known_issues, chosen, parsed.questions)


def _overrides(path: Path, entries: tuple[Decision, ...], findings: Findings) -> dict[str, str]:
    file = YamlFile(path)
    content = file.content
    prefix: list[str] = []
    if set(content) == {"decisions"} and isinstance(content["decisions"], dict):
        content, prefix = content["decisions"], ["decisions"]
    options = {entry.key: entry.options for entry in entries if entry.options}
    for key, option in content.items():
        where = file.where([*prefix, key])
        if key not in options:
            findings.add(f"there is no decision {key!r} to choose", where, suggestion(key, options))
        elif option not in options[key]:
            remedy = suggestion(str(option), options[key])
            if option is None and "null" in options[key]:
                remedy = f"put the option in quotes: {key}: 'null'; without them YAML has no text there"
            findings.add(f"decision {key!r} has no option {option!r}", where, remedy)
    return {key: str(option) for key, option in content.items()}
