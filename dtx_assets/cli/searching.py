"""The commands over what is derived from the target: embed its texts, search in them."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dtx_assets.cli.shared import (
    FIRST,
    SystemArgument,
    app,
    code_location,
    environment_of,
    execute,
    operator,
    output,
    read_settings,
    system_module,
)
from dtx_assets.machinery.base.errors import ConfigurationError

if TYPE_CHECKING:
    from dtx_assets.machinery.derived.model import DerivedDeclaration
    from dtx_assets.machinery.system.system import System


@app.command(
    epilog="Examples:\n\n  dtx embed dispatch\n\n  dtx embed dispatch --retry-dead\n\n"
    "  DISPATCH_EMBEDDER=bedrock DISPATCH_MODE=cutover dtx embed dispatch --accept-cost 2.50"
)
def embed(
    system: SystemArgument = FIRST,
    accept_cost: Annotated[
        float | None,
        typer.Option(min=0, metavar="DOLLARS", help="What it may cost in a cutover, which asks for it."),
    ] = None,
    retry_dead: Annotated[bool, typer.Option("--retry-dead", help="Try texts again that were given up, too.")] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="Go on in a cutover in spite of it; recorded."),
    ] = None,
) -> None:
    """Queue the texts of the target that changed, embed them, and make their indexes. Nothing is loaded."""
    location = code_location(system)
    declared_of(location.SYSTEM)

    from dtx_assets.cli.migrating import accepted_with_reasons
    from dtx_assets.machinery.checks.gate import require_known
    from dtx_assets.machinery.dagster.gate import known_obstacles
    from dtx_assets.machinery.dagster.run import select_assets
    from dtx_assets.machinery.run.operations import derived_assets

    reasons = accepted_with_reasons(accept or [])
    require_known(reasons, known_obstacles(location.SYSTEM, location.defs.resolve_asset_graph()))
    selection = select_assets(location.defs, system, " or ".join(derived_assets(location.SYSTEM)))
    options = {
        "mode": read_settings(location).mode,
        "accept": reasons,
        "accepted_by": operator(),
        "retry_dead": retry_dead,
        **({} if accept_cost is None else {"accept_cost": accept_cost}),
    }
    execute(location, system, system, options, selection)


@app.command(
    epilog='Examples:\n\n  dtx search dispatch messages "aligner does not fit"\n\n'
    '  dtx search dispatch messages "aligner" --hybrid --limit 3 --json | jq ".[].id"'
)
def search(
    system: Annotated[str, typer.Argument(help="Which migration of the workspace.")],
    entity: Annotated[str, typer.Argument(help="A target table whose texts are embedded.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="So many rows at most.")] = 10,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Look for its words too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show the texts as they are.")] = False,
) -> None:
    """The rows whose texts are nearest to a text, best first. Texts are masked."""
    migration = system_module(system).SYSTEM
    declared = declared_of(migration)

    from dtx_assets.machinery.base.masking import mask
    from dtx_assets.machinery.derived.search import entity_of
    from dtx_assets.machinery.derived.search import search as look_for
    from dtx_assets.machinery.derived.settings import DerivedSettings
    from dtx_assets.machinery.postgres.connection import connect, refusals_told

    found_in = entity_of(declared, entity)
    with environment_of(system) as environment:
        embedder = DerivedSettings.from_environment(system).make_embedder(declared.dimensions)
        with refusals_told(), connect(environment.target_url) as connection:
            matches = look_for(connection, found_in, embedder, text, limit, hybrid=hybrid)
    shown = [{**asdict(match), "text": match.text if unmasked else mask(match.text)} for match in matches]
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    console = output()
    console.print(f"{len(shown)} rows of {entity}, by {embedder.model_name}", highlight=False, markup=False)
    for match in shown:
        line = " ".join(match["text"].split())
        console.print(f"{match['similarity']:.4f}  {match['id']}  {line}", highlight=False, markup=False)


def declared_of(migration: "System") -> "DerivedDeclaration":
    """What a system derives; ConfigurationError where that is nothing."""
    from dtx_assets.machinery.derived.model import DerivedDeclaration

    if not isinstance(migration.derived, DerivedDeclaration):
        raise ConfigurationError(
            f"{migration.name} derives no texts from its target", where="SYSTEM", remedy="name a system that does"
        )
    return migration.derived
