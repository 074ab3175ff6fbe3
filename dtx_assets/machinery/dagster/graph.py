"""The asset graph of a system: what its steps share, and the decisions in it. What each step does lies beside it.

Dagster code only wires. Keys are `[system, layer, name]`. One step extracts all tables in one snapshot, one prepares
all targets of a flow, one evaluates all checks of a table."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.names import refuse_likenesses
from dtx_assets.machinery.checks.documents import UNDECLARED_COLLECTIONS
from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.dagster.metadata import (
    TRUE_NAME,
    asset_key,
    code_references,
    markdown_table,
)
from dtx_assets.machinery.derived.checks import QUEUE
from dtx_assets.machinery.mapping.decisions import Decision, Decisions
from dtx_assets.machinery.mapping.load import ARCHIVED
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.references import load_order
from dtx_assets.machinery.run.environment import ENVIRONMENT, RunEnvironment
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import System

OTHER_AREAS, REPORTS = "other_areas", "reports"
RESOURCES = {ENVIRONMENT}
FIRST, CHECKS, LAST = {"dagster/priority": "20"}, {"dagster/priority": "10"}, {"dagster/priority": "-20"}
LOADS = -10
"""In one process, steps that are ready run in the order of their priority: what can be checked is, before a load."""
EVALUATED = "checks_are_evaluated"
AREA_TAG, DECISION_TAG, GATE_TAG = "area", "decision", "gate"
"""The tags of an asset: the plan's area; whether a decision about it is open, and each by its name, as
`decision/<name>`; that a check of it closes the gate."""
CLOSES = "closes"
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
"""What Dagster takes for the address of an owner; any other owner is a team to it."""


@contextmanager
def told(environment: RunEnvironment) -> Iterator[None]:
    """Errors that users are meant to read end the step as a Failure with their text and no traceback of ours."""
    try:
        yield
    except MigrationError as error:
        environment.failures.append(str(error))
        raise failure(error) from None
    except dg.Failure as error:
        environment.failures.append(error.description or "")
        raise
    except GeneratorExit:
        raise
    except BaseException as error:
        # Panics of compiled libraries and interrupts are no Exception, and end the step just the same.
        environment.failures.append(type(error).__name__)
        raise


def failure(error: MigrationError) -> dg.Failure:
    facts = {"where": error.where, "do": error.remedy}
    return dg.Failure(
        description=str(error), metadata={name: fact for name, fact in facts.items() if fact}, allow_retries=False
    )


class Graph:
    """The assets of a system, with the one place that says their keys, groups, kinds, tags, owners and descriptions.

    `check_groups` are the checks beside those that are evaluated with an asset.
    """

    def __init__(self, system: System, check_groups: Iterable[CheckGroup] = ()) -> None:
        self.system = system
        self.load_order = tuple(load_order({target.model: target.loaded_after for target in system.targets}))
        self.decisions = system.decisions
        self.project = system.mappings_dir.parents[1]
        self._true_names: dict[dg.AssetKey, str] = {}
        self._flows_by_option: dict[str, dict[str, tuple[Flow, ...]]] = {}
        self._models_made_from: dict[tuple[str, str], frozenset[str]] = {}
        self._gating = self._assets_that_gate(check_groups)
        refuse_likenesses("legacy table", (*system.legacy_tables, *system.crosswalk_tables))
        refuse_likenesses("model", (target.model for target in system.targets))
        refuse_likenesses("mapping", (asset.name for asset in system.mapping_assets))

    def key(self, layer: str, name: str) -> dg.AssetKey:
        """The key of an asset; what another area hands over is read from where it was landed."""
        landed = layer == "legacy" and name in self.system.crosswalk_tables
        return self.key_as_it_is("crosswalk" if landed else layer, name)

    def key_as_it_is(self, layer: str, name: str) -> dg.AssetKey:
        """The key of an asset, of a crosswalk's legacy table too."""
        key = asset_key(self.system.name, layer, name)
        self._true_names[key] = name
        return key

    def spec(
        self, key: dg.AssetKey, area: str, description: str, *, kinds: Collection[str] = (), **rest: Any
    ) -> dg.AssetSpec:
        """What Dagster is told of an asset. Its layer is the first of its kinds: nodes of one name are told by it."""
        layer, name = key.path[1], self._true_names.get(key, key.path[-1])
        if name != key.path[-1]:
            description = f"`{name}`, which Dagster cannot call so. {description}"
            rest["metadata"] = {TRUE_NAME: name, **rest.get("metadata", {})}
        return dg.AssetSpec(
            key,
            group_name=self.group_of(area),
            owners=self.owners_of(layer, name),
            kinds={layer, *kinds},
            tags={**self.tags_of(layer, name, area), **({GATE_TAG: CLOSES} if key in self._gating else {})},
            description=description,
            **rest,
        )

    def _assets_that_gate(self, check_groups: Iterable[CheckGroup]) -> frozenset[dg.AssetKey]:
        """The assets that have a check which closes the gate (`metadata.closes_gate`)."""
        system = self.system
        checked = [group.asset for group in check_groups if any(spec.closes_gate for spec in group.specs)]
        checked += [("target", target.model) for target in system.filled_targets]
        checked += [("report", phase.report) for phase in system.phases]
        checked += [("archive", name) for name in system.legacy_tables]
        checked += [("archive", UNDECLARED_COLLECTIONS[1])] if system.reads_documents else []
        checked += [QUEUE] if system.derived else []
        return frozenset(self.key(*asset) for asset in checked)

    def group_of(self, area: str) -> str:
        """The group of an area; what several systems of a workspace have is told apart by the system's name."""
        return f"{self.system.name}_{area}" if area in (OTHER_AREAS, REPORTS) else area

    def owners_of(self, layer: str, name: str) -> list[str]:
        """Who answers for an asset, as Dagster has owners: an address, or a team."""
        if layer == "decision":
            confirms = self.decisions.entry(name).confirm_by
            owners: Collection[str] = (confirms,) if confirms else ()
        else:
            crosswalk = layer == "legacy" and name in self.system.crosswalk_tables
            of_layer = {"archive": "legacy"}.get(layer, "crosswalk" if crosswalk else layer)
            owners = self.system.owners_of(of_layer, name)
        known = [owner if EMAIL.fullmatch(owner) else f"team:{owner}" for owner in owners]
        return known or [f"team:{self.system.name}-migration"]

    def tags_of(self, layer: str, name: str, area: str) -> dict[str, str]:
        about = self.decisions_about(layer, name)
        state = "open" if any(decision.status == "open" for decision in about) else "settled"
        return {
            AREA_TAG: area,
            **({DECISION_TAG: state} if about else {}),
            **{f"{DECISION_TAG}/{as_tag(decision.key)}": "" for decision in about},
        }

    def decisions_about(self, layer: str, name: str) -> list[Decision]:
        """The decisions that an asset is about: that it declares, that its flow follows, that name its model."""
        if layer == "decision":
            return [self.decisions.entry(name)]
        table = {**self.system.crosswalk_tables, **self.system.legacy_tables}.get(name)
        if layer in ("legacy", "crosswalk", "archive") and table:
            return list(self.decisions.named(table.decision))
        target = next((target for target in self.system.targets if target.model == name), None)
        if layer not in ("prepared", "rejected", "target") or target is None:
            return []
        flow = self.system.flow_of(name)
        named = {decision.key for decision in self.decisions.named(target.decision)}
        named |= set(flow.decisions) if flow else set()
        return [entry for entry in self.decisions.entries if entry.key in named or name in entry.affects]

    def made_together(self, layer: str, name: str) -> set[dg.AssetKey]:
        """The assets that one step makes at once with this one, itself included; none of them waits for another."""
        flow = self.system.flow_of(name) if layer in ("prepared", "rejected") else None
        models = flow.targets if flow else ()
        return {
            self.key(layer, name),
            *(self.key(made, model) for made in ("prepared", "rejected") for model in models),
        }

    def models_made_from(self, layer: str, name: str) -> frozenset[str]:
        """The models whose rows are made from a dataset; those of a target are not made from it."""
        if layer == "target":
            return frozenset()
        # Kept, since each load asks it of each dataset that is checked.
        if (layer, name) not in self._models_made_from:
            self._models_made_from[layer, name] = self._found_to_be_made_from(layer, name)
        return self._models_made_from[layer, name]

    def _found_to_be_made_from(self, layer: str, name: str) -> frozenset[str]:
        mappings = {
            asset.name
            for asset in self.system.mapping_assets
            if (layer, name) == ("mapping", asset.name) or ("legacy", name) in asset.upstream
        }
        return frozenset(
            model
            for flow in self.system.flows
            for model in flow.targets
            if name in (*flow.sources, *flow.targets) or mappings & set(flow.mappings)
        )

    def described(self, text: str, decision: str) -> str:
        """A description with the plan's decision: its number, its text, what was chosen."""
        paragraphs = [text, *decision_paragraphs(self.decisions, decision)]
        return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)

    @property
    def choices(self) -> list[Decision]:
        """The decisions that have options, each with the one that was chosen."""
        return [
            entry.model_copy(update={"chosen": self.decisions.chosen[entry.key]})
            for entry in self.decisions.entries
            if entry.options
        ]

    def area_of(self, decision: Decision) -> str:
        """The group of the plan's area that a decision is of."""
        return next(group for group, title in self.system.areas.items() if title.startswith(f"Area {decision.area}:"))

    def flows_by_option(self, decision: str) -> dict[str, tuple[Flow, ...]]:
        """The flows of the graph under each option of a decision, the other choices as they are."""
        # Kept, since each target that no flow fills asks it of each decision.
        if decision not in self._flows_by_option:
            self._flows_by_option[decision] = {
                option: self.system.flows_under({**self.decisions.chosen, decision: option})
                for option in self.decisions.entry(decision).options
            }
        return self._flows_by_option[decision]


def as_tag(name: str) -> str:
    """A name as Dagster takes it in a tag."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:63]


def status_told(decisions: Decisions, decision: Decision) -> str:
    shown = decisions.demonstration
    return decision.status + (" for a demonstration, by nobody" if shown and decision.key in shown.confirmed else "")


def decision_paragraphs(decisions: Decisions, named: str) -> list[str]:
    """`Decision A8 #1: title. Text` of each decision that a declaration names, such as `A8 #1, #7`."""
    paragraphs = []
    for entry in decisions.named(named):
        options = f" Options: {', '.join(entry.options)}." if entry.options else ""
        paragraphs.append(
            f"**Decision A{entry.area} #{entry.number}: {entry.title}.** {entry.text}{options} Status:"
            f" {status_told(decisions, entry)}."
        )
    return paragraphs or ([f"Plan: {named}."] if named else [])


def build_decision_specs(graph: Graph) -> list[dg.AssetSpec]:
    """External assets: each decision that has options, with what every option makes of the graph."""
    return [
        graph.spec(
            graph.key("decision", decision.key),
            graph.area_of(decision),
            f"**Decision A{decision.area} #{decision.number}: {decision.title}.** {decision.text}\n\n"
            f"Chosen: **{decision.chosen}** ({status_told(graph.decisions, decision)})."
            f" {graph.system.name.upper()}_DECISIONS names a file that chooses otherwise.",
            kinds={"yaml"},
            metadata={
                "chosen": decision.chosen or "",
                "status": status_told(graph.decisions, decision),
                "to be confirmed by": decision.confirm_by or "nobody",
                "options": markdown_table(
                    ("option", "chosen", "what it adds to the graph"), option_rows(graph, decision)
                ),
                **code_references(graph.project, graph.system.mappings_dir / "decisions.yaml"),
            },
        )
        for decision in graph.choices
    ]


def option_rows(graph: Graph, decision: Decision) -> Iterator[tuple[str, str, str]]:
    """Each option, whether it is chosen, and the flows that only this option or another one has."""
    by_option = {
        option: {f"{source} → {model}" for flow in flows for source, model in flow.accounted}
        for option, flows in graph.flows_by_option(decision.key).items()
    }
    everywhere = set.intersection(*by_option.values())
    for option, flows in by_option.items():
        added = ", ".join(sorted(flows - everywhere))
        yield option, "chosen" if option == decision.chosen else "not chosen", added or "no asset of its own"


def files_that_map(system: System, table: LegacyTable) -> list[Path]:
    """The mapping files that say what becomes of a table."""
    files = [
        mapping_file(system, model)
        for model, mapping in system.mappings.targets.items()
        if table.name in mapping.sources
    ]
    return files or [system.mappings_dir / ARCHIVED]


def mapping_file(system: System, model: str) -> Path:
    return system.mappings.files.get(model, system.mappings_dir / f"{model}.yaml")


def priority(graph: Graph, models: Iterable[str], least: int = 0) -> dict[str, str]:
    """Models of the load order come before the others, the first of it first."""
    ranks = [len(graph.load_order) - graph.load_order.index(model) for model in models if model in graph.load_order]
    return {"dagster/priority": str(least + max(ranks, default=0))}
