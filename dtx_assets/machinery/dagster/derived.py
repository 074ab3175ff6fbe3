"""The assets of the layer `derived`: the queue of texts and their embeddings, in one step after the targets."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

import dagster as dg

from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.dagster.checks import check_result, check_spec
from dtx_assets.machinery.dagster.graph import RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import code_references
from dtx_assets.machinery.dagster.targets import legacy_rows
from dtx_assets.machinery.derived.checks import MODEL, QUEUE, derived_checks, evaluate_derived
from dtx_assets.machinery.derived.gate import evaluate_gate, gate_checks
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.run import Derivation, Deriving
from dtx_assets.machinery.derived.sending import SendingSummary
from dtx_assets.machinery.derived.settings import DerivedSettings
from dtx_assets.machinery.mapping.load import DERIVED
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.operations import derived_phase

AFTER_LOADS = {"dagster/priority": "-15"}


def build_derived(graph: Graph) -> list[dg.AssetsDefinition]:
    """The step that derives everything, where the system declares anything; its checks are evaluated with it."""
    declared = graph.system.derived
    if not isinstance(declared, DerivedDeclaration):
        return []
    queue = graph.key(*QUEUE)
    models = {target.name: target.model for target in graph.system.targets}
    targets = [graph.key("target", models[table]) for table in declared.entities]
    # A gate before it that failed stops what is derived, too.
    gates = [graph.key("report", phase.report) for phase in graph.system.phases]
    references = code_references(graph.project, graph.system.mappings_dir / DERIVED)
    specs = [
        graph.spec(
            queue,
            declared.area,
            "The text of each row that has one, by its hash: what is to be embedded, what was, and what is dead.",
            deps=[*targets, *gates],
            kinds={"postgres"},
            metadata={"dagster/table_name": declared.queue, **references},
        ),
        *(
            graph.spec(
                graph.key("derived", entity.embeddings),
                declared.area,
                f"The embeddings of the texts of {entity.table}; searched by {entity.search}, {entity.hybrid_search}.",
                deps=[queue, graph.key("target", models[entity.table])],
                kinds={"postgres"},
                metadata={"dagster/table_name": entity.embeddings, **references},
            )
            for entity in declared.entities.values()
        ),
    ]
    if declared.knowledge:
        specs.append(
            graph.spec(
                graph.key("derived", declared.documents),
                declared.area,
                "A document a text, whether it was sent or waits, in a knowledge base of Dify an entity: "
                f"{', '.join(map(declared.name_of_base, declared.entities))}.",
                deps=[queue],
                kinds={"postgres"},
                metadata={"dagster/table_name": declared.documents, **references},
            )
        )
    phase = derived_phase(graph.system)
    gate = gate_checks(phase) if phase else ()
    checks = {spec.name: spec for spec in (*derived_checks(declared), *gate)}

    @dg.multi_asset(
        name=f"{graph.system.name}_derive",
        specs=specs,
        check_specs=[check_spec(queue, spec, []) for spec in checks.values()],
        required_resource_keys=RESOURCES,
        op_tags=AFTER_LOADS,
    )
    def derive(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        run = environment.load()
        with told(environment), refusals_told(), connect(environment.target_url) as connection:
            derivation = derive_all(environment, declared, connection, run.run_id, context)
            yield dg.MaterializeResult(asset_key=queue, metadata=derivation_metadata(derivation))
            for entity in declared.entities.values():
                key = graph.key("derived", entity.embeddings)
                yield dg.MaterializeResult(asset_key=key, metadata={"model": derivation.model_name})
            if declared.knowledge:
                key = graph.key("derived", declared.documents)
                yield dg.MaterializeResult(asset_key=key, metadata=sending_metadata(derivation.sending))
            dify_url = DerivedSettings.from_environment(graph.system.name).dify_url
            outcomes = evaluate_derived(connection, declared, derivation.model_name, dify_url)
            if phase:
                chosen, legacy = environment.decisions.chosen, legacy_rows(environment)
                outcomes |= evaluate_gate(connection, graph.system, phase, chosen, legacy)
            for name, outcome in outcomes.items():
                yield check_result(queue, checks[name], outcome, checks[name].severity, graph.system)

    return [derive]


def derive_all(
    environment: RunEnvironment,
    declared: DerivedDeclaration,
    connection: Connection,
    run_id: str,
    context: dg.AssetExecutionContext,
) -> Derivation:
    settings = DerivedSettings.from_environment(environment.system.name)
    embedder = settings.make_embedder(declared.dimensions)
    options = environment.options
    dify = settings.make_dify()
    progress = StepProgress(f"embed with {embedder.model_name}", lambda _line: None)
    with closing(dify) if dify else nullcontext():
        return Deriving(
            connection,
            declared,
            environment.system.mappings_dir,
            run_id,
            environment.decisions.chosen,
            legacy_rows(environment),
            embedder,
            settings.requests_a_minute,
            settings.concurrency,
            context.log.info,
            dify=dify,
            told=progress,
            cutover=environment.mode == "cutover",
            accepted_cost=options.accept_cost,
            accepts_stand_in=bool({MODEL, f"{'/'.join(QUEUE)}:{MODEL}"} & set(options.accept)),
        ).run(retry_dead=options.retry_dead)


def sending_metadata(sending: SendingSummary | None) -> dict[str, Any]:
    if sending is None:
        return {"sent": "nothing: no address of Dify is given, and the documents wait"}
    return {
        "documents sent": sending.sent,
        "documents taken away": sending.removed,
        "attempts that are tried again": sending.tried_again,
        "documents given up": sending.dead,
    }


def derivation_metadata(derivation: Derivation) -> dict[str, Any]:
    queued, done = derivation.queued, derivation.embedding
    return {
        "model": derivation.model_name,
        "estimated before": str(derivation.expected),
        "cost in dollars": derivation.dollars,
        **{f"rows of the queue {what}": getattr(queued, what) for what in ("created", "updated", "deleted")},
        "rows embedded": done.embedded,
        "rows with a text that was embedded already": done.adopted,
        "rows whose embeddings were removed": done.removed,
        "distinct texts asked": done.asked,
        "tokens": done.tokens,
        "texts cut short": done.truncated,
        "attempts that are tried again": done.tried_again,
        "rows given up": done.dead,
        "given up before and tried again": derivation.revived,
        "indexes made": ", ".join(derivation.indexes) or "none",
    }
