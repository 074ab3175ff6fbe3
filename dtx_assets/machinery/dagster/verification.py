"""A check per target that compares all its rows with what the mapping gives. What is compared is `load.verify`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dtx_assets.machinery.base.masking import mask, plain
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.dagster.graph import LAST, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import (
    BLOCKS,
    VERIFICATION_DATA,
    asset_name,
    check_name,
    described_check,
    red_metadata,
    table,
)
from dtx_assets.machinery.load import Verification
from dtx_assets.machinery.load.samples import Sample
from dtx_assets.machinery.load.verification import FAULTS
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.operations import verify_model
from dtx_assets.machinery.system.system import System

VERIFIED = "holds_what_the_mapping_gives"
SHOWN = 50
BY_DIGEST = "unchanged by the digest of each row since they were compared by value in run"


def verification_checks(graph: Graph) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(graph.key("target", target.model), VERIFIED) for target in graph.system.filled_targets]


def build_verifications(graph: Graph) -> list[dg.AssetChecksDefinition]:
    """A step per target, so that one that cannot be prepared keeps none of the others from being verified."""
    return [build_verification(graph, target) for target in graph.system.filled_targets]


def build_verification(graph: Graph, target: TargetTable) -> dg.AssetChecksDefinition:
    model = target.model
    key = graph.key("target", model)
    said = (
        "Each row of the target is compared by value with what the mapping gives from the legacy data: none is lost,"
        " extra or changed. Where files belong to the rows, each is compared with the object store by size and"
        " checksum. Rows that others own are left out; that source rows vanished is a warning. In a rehearsal, where no"
        " row changed since a clean comparison, by a digest of each, that one holds. `dtx verify` compares all by value"
        " at any time."
    )
    spec = dg.AssetCheckSpec(
        VERIFIED,
        asset=key,
        description=described_check(dg.AssetCheckKey(key, VERIFIED), said, structure=False, blocking=True),
        # Which rows are orphans shows in all that are loaded together.
        additional_deps=[
            graph.key(layer, each.model)
            for each in graph.system.loaded_with[model]
            for layer in ("prepared", "rejected")
        ],
        metadata={"severity": "ERROR", BLOCKS: True},
    )

    @dg.multi_asset_check(
        name=f"{graph.system.name}_verify_{dagster_name(model)}",
        specs=[spec],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=LAST,
    )
    def verify(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            if limit := environment.options.limit:
                context.log.warning(f"not evaluated: the first {limit:,} rows of each table were loaded, and no more")
                return
            found = verify_model(environment, target, context.log.info)
            red_for = [] if found.is_clean or only_vanished(found) else [unlike(found, key, environment)]
            metadata = verification_metadata(found, target, graph.system)
            yield dg.AssetCheckResult(
                passed=found.is_clean,
                asset_key=key,
                check_name=VERIFIED,
                severity=dg.AssetCheckSeverity.WARN if only_vanished(found) else dg.AssetCheckSeverity.ERROR,
                metadata={**red_metadata(red_for), **metadata},
            )

    return verify


def only_vanished(found: Verification) -> bool:
    """Whether all that is wrong is that source rows went away, whose target rows a load leaves and lists."""
    return found.counts.total() == found.vanished


def unlike(found: Verification, key: dg.AssetKey, environment: RunEnvironment) -> Obstacle:
    """What a target that does not hold what the mapping gives is red for."""
    name = check_name(dg.AssetCheckKey(key, VERIFIED))
    faults = ", ".join(f"{found.counts[fault]:,} {fault.replace('_', ' ')}" for fault in FAULTS if found.counts[fault])
    return Obstacle(
        "check",
        name,
        asset_name(key),
        f"the target does not hold what the mapping gives: {faults}",
        environment.system.owner_of("target", key.path[2]),
        "look at the examples of `dtx verify`: load again what is lost, ask who changed the others",
        found.counts.total(),
        frozenset([name]),
    )


def verification_metadata(found: Verification, target: TargetTable, system: System) -> dict[str, Any]:
    """What a verification found, its examples masked: as tables for people, and whole as data."""
    samples = [masked_sample(sample, target, system) for sample in found.samples]
    facts: dict[str, Any] = {
        "rows": found.rows,
        "owned_by_others": found.owned_by_others,
        "refused": found.refused,
        "vanished": found.vanished,
    }
    if target.file_columns:
        facts |= {"files": found.files, "files_read": found.files_read}
    facts |= {fault: found.counts[fault] for fault in FAULTS if target.file_columns or not fault.startswith("files_")}
    told: dict[str, Any] = {"count": found.counts.total()}
    if found.compared_in:
        facts["compared_in"] = told[BY_DIGEST] = found.compared_in
    return {
        **told,
        **{name.replace("_", " "): number for name, number in facts.items() if name != "compared_in"},
        "found, masked": table(
            ("what", "source row", "id", "column", "is", "should be"),
            [
                (f"{sample['fate']}: {sample['cause']}", sample["place"], sample["target_id"] or "", name, *values)
                for sample in samples[:SHOWN]
                for name, values in (sample["columns"] or {"": ("", "")}).items()
            ],
        ),
        VERIFICATION_DATA: dg.MetadataValue.json({"model": target.model, **facts, "found": samples}),
    }


def masked_sample(sample: Sample, target: TargetTable, system: System) -> dict[str, Any]:
    """An example for people: each column's value as it is and as it would be, or should be."""
    personal = system.personal_columns(target)
    part = mask(sample.part) if sample.part and system.hides_parts(target) else sample.part
    return {
        "fate": sample.fate,
        "source_key": sample.source_key,
        "part": part,
        "place": f"{sample.source_key} {part}".strip(),
        "target_id": sample.target_id,
        "cause": sample.cause,
        "columns": {
            name: [mask(value) if name in personal else plain(value) for value in values]
            for name, *values in sample.columns
        },
    }
