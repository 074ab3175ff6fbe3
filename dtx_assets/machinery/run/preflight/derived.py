"""Whether the target has what texts are derived into: pgvector, the tables, and triggers that are off until then."""

from collections.abc import Iterator

from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.schema import has_extension, is_available, missing_parts, trigger_states
from dtx_assets.machinery.derived.settings import DerivedSettings
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding, shortened

PART = "derived"


def derived_parts(environment: RunEnvironment, connection: Connection | None) -> Iterator[Finding]:
    """A finding for the embedder, and where there is a target for each thing it must have."""
    declared = environment.system.derived
    if not isinstance(declared, DerivedDeclaration):
        return
    settings = DerivedSettings.from_environment(environment.system.name)
    model = settings.make_embedder(declared.dimensions).model_name
    if settings.embedder == "bedrock":
        says = f"{model} in {settings.region}, {settings.a_minute} requests a minute, {settings.concurrency} at once"
        yield Finding(PART, "embedder", "yes", says)
    else:
        variable = f"{environment.system.name.upper()}_EMBEDDER"
        remedy = f"{variable}=bedrock embeds with a model; a cutover refuses a stand-in"
        yield Finding(PART, "embedder", "warn", f"{model}, which only stands in for a model", remedy)
    if declared.knowledge:
        if settings.dify_url:
            yield Finding(PART, "Dify", "yes", f"texts are sent to {settings.dify_url}")
        else:
            variable = f"{environment.system.name.upper()}_DIFY_URL"
            says = "no address of it is given: nothing is sent, and documents wait"
            yield Finding(
                PART, "Dify", "warn", says, f"{variable} and its key send them; the check dify_documents asks"
            )
    if connection is None:
        return
    if has_extension(connection):
        yield Finding(PART, "pgvector", "yes", "is in the database")
    else:
        how = "CREATE EXTENSION vector" if is_available(connection) else "install pgvector on the server"
        says = "is not in the database: texts cannot be embedded, all else can be migrated"
        yield Finding(PART, "pgvector", "no", says, f"{how}, then load embeddings.sql of the mapping folder")
    if missing := missing_parts(connection, declared):
        remedy = "`dtx target ddl` prints what makes them"
        yield Finding(PART, "tables and functions", "no", f"lacks {shortened(missing)}", remedy)
        return
    yield Finding(PART, "tables and functions", "yes", "are there")
    on = [name for name, state in trigger_states(connection, declared).items() if state == "on"]
    says = f"enabled: {shortened(on)}" if on else "disabled until texts are embedded"
    yield Finding(PART, "triggers", "yes", says)
