"""The checks of a landed collection of documents: what its fields hold, and which of them nobody declared."""

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, found
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.documents import collection_of
from dtx_assets.machinery.sources.landing import DOCUMENTS

UNDECLARED_COLLECTIONS = ("report", "undeclared_collections")
"""The asset that lists what nobody declared."""


def document_checks(table: LegacyTable, layer: str = "legacy") -> CheckGroup:
    """What holds for a collection that was landed, and what is seen of it before anything is written."""
    asset = (layer, table.name)
    specs = (
        CheckSpec("collection_is_there", asset, "The collection is there; one that is not counts as empty."),
        CheckSpec(
            "collection_case",
            asset,
            "No other collection's name differs from that of an absent one by case only.",
            "ERROR",
            blocking=True,
        ),
        CheckSpec("undeclared_fields", asset, "No document has a field that nobody declared; they are kept."),
        CheckSpec(
            "field_types", asset, "Every declared field occurs; its BSON types are counted, documents without it too."
        ),
        CheckSpec("snapshot", asset, "The documents are those of one moment; else the copy may mix several."),
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        manifest = context.manifest(layer, table.name)
        return {
            "collection_is_there": absence_outcome(table, manifest),
            "collection_case": case_outcome(table, manifest),
            "undeclared_fields": undeclared_outcome(manifest),
            "field_types": field_types_outcome(manifest),
            "snapshot": moment_outcome(manifest, is_cutover=context.settings.mode == "cutover"),
        }

    return CheckGroup(asset, specs, evaluate, (asset,))


def undeclared_collections_checks() -> CheckGroup:
    """What lies in the source beside the declared collections."""
    asset = UNDECLARED_COLLECTIONS
    spec = CheckSpec(
        "undeclared_collections",
        asset,
        "The source has no collection that nobody declared; those that it has are archived whole, views are not read.",
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        facts = context.manifest(*asset).metadata
        return {spec.name: found(len(facts["documents"]), **facts)}

    return CheckGroup(asset, (spec,), evaluate, (asset,))


def absence_outcome(table: LegacyTable, manifest: Manifest) -> CheckOutcome:
    if not manifest.metadata.get("absent"):
        return found(0)
    return found(1, **{"collections that are not there, and count as empty": [collection_of(table)]})


def case_outcome(table: LegacyTable, manifest: Manifest) -> CheckOutcome:
    """Names of others that are an absent collection's in another case: it may be the one that is meant."""
    alike = manifest.metadata.get("alike", [])
    if not alike:
        return found(0)
    facts = {"declared": collection_of(table), "there": alike}
    return found(len(alike), **facts, do="rename the collection, or declare it as it is written")


def undeclared_outcome(manifest: Manifest) -> CheckOutcome:
    """Fields that no column names, by BSON type; those beyond the number that is told by name are counted alone."""
    facts = manifest.metadata
    types = facts.get("undeclared_types", {})
    outcome = found(len(types), fields=types)
    if facts.get("undeclared_not_named"):
        outcome.passed = False
        outcome.metadata["values of further fields"] = facts["undeclared_not_named"]
    return outcome


def field_types_outcome(manifest: Manifest) -> CheckOutcome:
    """The BSON types of each declared field; a field that occurs in no document of some is found."""
    facts = manifest.metadata
    rows = manifest.tables["rows"].rows - facts.get("unreadable", 0)
    types = facts.get("types", {}) if facts.get("dialect") == DOCUMENTS else {}
    shown = {
        name: {**counted, **({"missing": missing} if (missing := rows - sum(counted.values())) else {})}
        for name, counted in types.items()
    }
    never = [name for name, counted in types.items() if rows and not counted]
    return found(len(never), **{"types": shown, "fields that occur in no document": never})


def moment_outcome(manifest: Manifest, *, is_cutover: bool) -> CheckOutcome:
    """Whether a copy is of one moment; an ERROR in a cutover where it may not be."""
    facts = manifest.metadata
    outcome = found(
        int(not facts.get("consistent_snapshot")),
        **{f"documents {when}": facts[f"count_{when}"] for when in ("before", "after") if f"count_{when}" in facts},
    )
    outcome.severity = "ERROR" if is_cutover else "WARN"
    return outcome
