"""`dtx init`: looks at a legacy database and a target, and writes what makes a system of them."""

import json
import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtx_assets.cli.shared import app
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK

if TYPE_CHECKING:
    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.declare.suggest import Suggestions
    from dtx_assets.machinery.postgres.catalogue import FoundTarget
    from dtx_assets.machinery.sources.found import FoundTable

EXAMPLES = """
Examples:

  dtx init sakila --legacy mysql://reader@db/sakila --target postgresql://loader@db2/films

  dtx init sakila --legacy exports/ --target schema.sql

  dtx init sakila --check
"""
FOUND = "found.json"
"""What was found on both sides when the files were written."""
DEFINITIONS = '''"""The code location `{system}`, made of what lies in mappings/{system}."""

from pathlib import Path

from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.declare.folder import system_from_folder

HERE = Path(__file__).parent

SYSTEM = system_from_folder("{system}", HERE.parent / "mappings" / "{system}", code_dir=HERE)

defs = build_definitions(SYSTEM)
'''


@app.command(epilog=EXAMPLES)
def init(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="What the migration is to be called.")],
    legacy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The legacy tables; by default where SYSTEM_LEGACY_URL says they are."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="URL|FILE.sql", help="The target database, or its schema as SQL; else SYSTEM_TARGET_URL."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing: say what changed since, on either side."),
    ] = False,
) -> None:
    """Look at both sides and write mappings/SYSTEM, the twenty lines of Python beside it, and the workspace's entry.

    What names and types suggest is mapped, everything else is listed as undecided, and what was guessed is a decision
    to confirm. A file that somebody edited is left as it is, and what it would be is shown.
    """
    _require_name(system)
    from dtx_assets.machinery.base.settings import Settings, apply_environment_files

    apply_environment_files()
    settings = Settings.from_environment(system, sample_dir=Path("legacy"))
    here = Path.cwd()
    folder = here / "mappings" / system
    if check:
        _check(folder, settings, legacy, target)
        return

    from dtx_assets.cli.workspace import add_to_workspace, read_workspace
    from dtx_assets.machinery.declare.draft import drafts, found_facts
    from dtx_assets.machinery.declare.write import write_drafts
    from dtx_assets.machinery.mapping.load import TARGET_SQL

    package, workspace = here / f"{system}_assets", here / "workspace.yaml"
    module = f"{package.name}.definitions"
    if workspace.exists() and read_workspace(workspace).get(system, module) != module:
        raise ConfigurationError(
            f"there is a system {system!r} that was not made by `dtx init`",
            where=str(workspace),
            remedy="call the new one something else",
        )
    found = _look(folder, settings, legacy, target)
    made = drafts(found.tables, found.targets)
    written = write_drafts(
        {
            **{folder / name: content for name, content in made.files.items()},
            **({folder / TARGET_SQL: found.sql} if found.sql else {}),
            package / "__init__.py": f'"""The migration `{system}`."""\n',
            package / "definitions.py": DEFINITIONS.format(system=system),
        }
    )
    (folder / FOUND).write_text(json.dumps(found_facts(found.tables, found.targets), indent=1) + "\n", "utf-8")
    add_to_workspace(workspace, system, module)
    for file in written:
        if file.state == "kept":
            typer.echo(f"{file.path.relative_to(here)} was edited, and is left as it is; it would be:")
            typer.echo("\n".join(file.diff))
    _summarise(system, made.suggestions, sum(file.state == "written" for file in written))


@dataclass(frozen=True)
class _Found:
    """Both sides, and the SQL that was given for the target."""

    tables: "list[FoundTable]"
    targets: "list[FoundTarget]"
    sql: str | None = None


def _look(folder: Path, settings: "Settings", legacy: str | None, target: str | None) -> _Found:
    """What is there on both sides; ConfigurationError where one of them is not named, or holds no table."""
    from dtx_assets.machinery.declare.sql_file import scratch_database
    from dtx_assets.machinery.mapping.load import TARGET_SQL
    from dtx_assets.machinery.postgres.catalogue import target_catalogue
    from dtx_assets.machinery.postgres.connection import connect, refusals_told
    from dtx_assets.machinery.sources.catalogue import legacy_catalogue

    tables = legacy_catalogue(legacy or settings.legacy_url)
    if not tables:
        raise ConfigurationError("there is no legacy table", where="--legacy", remedy="name the place that has them")
    names = [table.name for table in tables]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"several schemas have a table of the same name: {', '.join(doubled)}",
            where="--legacy",
            remedy="give an account that sees one of them, or one a view of another name",
        )
    url = target or settings.target_url or (str(folder / TARGET_SQL) if (folder / TARGET_SQL).is_file() else None)
    if url is None:
        raise ConfigurationError(
            "nobody says what the target is",
            where="--target",
            remedy="give the URL of its database, or its schema as a file: --target schema.sql",
        )
    sql = None
    if "://" in url:
        with refusals_told(), connect(url) as connection:
            targets = target_catalogue(connection)
    else:
        with scratch_database(Path(url), settings.home) as (connection, sql):
            targets = target_catalogue(connection)
    if not targets:
        raise ConfigurationError("the target has no table", where="--target", remedy="make its tables first")
    return _Found(tables, targets, sql)


def _check(folder: Path, settings: "Settings", legacy: str | None, target: str | None) -> None:
    """Says what changed since the files were written; ends with exit code 3 where something did."""
    from dtx_assets.machinery.declare.draft import found_facts
    from dtx_assets.machinery.declare.write import changes

    try:
        before = json.loads((folder / FOUND).read_text("utf-8"))
    except (OSError, ValueError):
        raise ConfigurationError(
            "it is not known what was there before", where=str(folder / FOUND), remedy="run `dtx init` without --check"
        ) from None
    found = _look(folder, settings, legacy, target)
    changed = changes(before, found_facts(found.tables, found.targets))
    for line in changed or ["Nothing changed on either side."]:
        typer.echo(line)
    raise typer.Exit(EXIT_CHECK_FAILED if changed else EXIT_OK)


def _summarise(system: str, suggestions: "Suggestions", written: int) -> None:
    pairs = suggestions.pairs
    mapped = sum(len(pair.columns) for pair in pairs)
    undecided = sum(len(pair.undecided) for pair in pairs)
    unread = sum(len(pair.unread) for pair in pairs)
    typer.echo(f"mappings/{system}: {written} files written.")
    typer.echo(f"{len(pairs)} tables are mapped, {mapped} columns of them; undecided: {undecided} target columns,")
    typer.echo(
        f"{unread} legacy columns, {len(suggestions.tables_without_target)} legacy tables,"
        f" {len(suggestions.targets_without_table)} target tables. Look for `undecided` in the files."
    )
    if suggestions.targets_without_key:
        names = ", ".join(target.full_name for target in suggestions.targets_without_key)
        typer.echo(f"Left out, since nothing tells their rows apart: {names}. Give them a primary key in the target.")
    typer.echo(
        f"Next: set {system.upper()}_LEGACY_URL, and {system.upper()}_TARGET_URL where it is not the embedded database;"
        f" `dtx diagnose {system}`, `dtx run {system}`."
    )


def _require_name(system: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", system) or keyword.iskeyword(system):
        raise ConfigurationError(
            f"{system!r} cannot be the name of a system",
            where="SYSTEM",
            remedy="use small letters, digits and `_`: it begins variables and names a Python package",
        )
