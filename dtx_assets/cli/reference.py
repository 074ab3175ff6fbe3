"""The reference pages of `docs/reference/` and the JSON Schemas of `mappings/`, rendered from the code.

`make docs` writes them. What only people can say is in the other pages of `docs/`.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import typer
from pydantic import BaseModel

from dtx_assets.cli import main as cli
from dtx_assets.dtx.checks import covers
from dtx_assets.dtx.system import FUNCTIONS, MAPPINGS_DIR, PROJECT_DIR, SYSTEM
from dtx_assets.machinery.base.exit_codes import EXIT_CODES
from dtx_assets.machinery.base.settings import SHARED_VARIABLES, VARIABLES
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.dagster.metadata import BLOCKS, asset_name, own_description
from dtx_assets.machinery.declare.model import TablesFile, TargetsFile
from dtx_assets.machinery.feeds.model import feed_schema
from dtx_assets.machinery.mapping.checks import ChecksFile, checks_schema
from dtx_assets.machinery.mapping.decisions import DecisionsFile
from dtx_assets.machinery.mapping.model import ArchivedFile, TargetMapping, mapping_schema
from dtx_assets.machinery.mapping.validate import FUNCTIONS_OF_A_SOURCE
from dtx_assets.machinery.samples.declared import SampleFile
from dtx_assets.machinery.transforms.columns import GENERIC

GENERATED = "<!-- Rendered from the code: `make docs` writes it anew. -->"

COMMANDS = """\
# Commands

`dtx` works on the systems that a `workspace.yaml` names: that of the current directory, else the package's own, which
names `dtx`. `dtx COMMAND --help` shows the same as this page.
"""

ENVIRONMENT = """\
# Environment

Each system has variables of its own: `DTX_LEGACY_URL` for `dtx`, `LIBRARY_LEGACY_URL` for a system `library`. Those of
the process count before those of `.env.<APP_ENV>`, and those before `.env`, in the current directory. An empty variable
counts as unset, and a name that is nearly one of these is refused. Passwords are masked wherever a value is shown.
Where legacy tables or crosswalks are a directory or a prefix, it holds a `<table>.csv` of each.
"""

OTHER_VARIABLES = """
The Dagster instance for production reads more: [`deploy/`](../../deploy/README.md). `DTX_FAILPOINT` is for tests, and
kills the process at a named point (`dtx_assets/machinery/base/failpoints.py`).
"""

MAPPING = """\
# Mapping files

`mappings/<system>/` holds data that is reviewed, and that runs: `<Model>.yaml` maps one target model, `archived.yaml`
lists the tables that no mapping reads, `decisions.yaml` holds the choices of the plan, `checks.yaml` checks that are
conditions on columns, and each `<name>.csv` is a value map. Whatever is wrong with them is told at once, with file,
line and remedy, when the code location loads. Editors complete the keys with `mappings/mapping.schema.json` and, of
checks, `mappings/checks.schema.json`. Feeds have [a page of their own](../feeds.md).\
"""

DECLARATIONS = """
## Declarations as data

Where a system is made of its folder (`system_from_folder`), these two files say what its tables are, and `<name>.csv`
and the files above what becomes of them. `dtx init` writes all of them first. A kind alone may stand for a legacy
column (`film_id: integer`), a type alone for a target column (`title: text`).
"""

SAMPLES = """
## Samples

What `dtx sample` is told besides; [samples](../samples.md) says how. A value or a list of values alone may stand for a
column.
"""

VALUE_MAPS = """
## Value maps

A CSV file in UTF-8 with a header line. The first column is the key, compared without case and without the blanks around
it; an empty field is NULL; a column of nothing but `true` and `false` is boolean. Those of DTX:
"""

CROSSWALKS = """
## Crosswalks and references of DTX

`crosswalk: NAME` in a column names one of the first kind; flows read the others.
"""

TRANSFORMS = """
## Transforms

`transform: NAME` in a column, with its settings under `with`. A column that says nothing else is made by `text`.
"""

SHAPES = """
## Functions of DTX

What a table of columns cannot say: `shape`, `expand` and `merge` of a source name one of these.
"""

CHECKS = """\
# Checks

The {count} asset checks of `dtx` under the options that `decisions.yaml` chooses. The name of a check says what holds
when it passes. ERROR makes the exit code 3, WARN is only shown; a check that finds something worse or better than usual
says so. One that stops *what depends on it* is of structure: nothing that needs the asset is done, in a rehearsal
neither, and it cannot be accepted. One that stops *a cutover* keeps its loads back while it is red, unless it is
accepted by name: `--accept 'rejected/EmailTemplate:no_letter_row_is_rejected=why'`, or `--accept
'decisions_are_confirmed=why'` for that check of every asset.\
"""

OTHER_OPTIONS = """
## Under other options

What choosing otherwise adds, by the same rules:
"""

KNOWN_ISSUES = """
## What the plans know to be wrong, and what looks at it

Known issues (K) and pre-migration actions, with the checks that show how things are.
"""

Lines = Iterator[str]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |"


def code(text: object) -> str:
    return f"`{text}`"


def sentence(text: str) -> str:
    """A description as a table has it: without the point at its end."""
    return text.strip().removesuffix(".")


# --- commands ---------------------------------------------------------------------------------------------------------


def commands_page() -> Lines:
    yield COMMANDS
    yield from table(("exit code", "of every command"), ((str(number), says) for number, says in EXIT_CODES.items()))
    for name, command in commands(typer.main.get_command(cli.app), "dtx"):
        yield f"\n## {name}\n"
        yield from command_lines(name, command)
    yield "\n## make\n"
    yield from table(("target", "does"), ((code(f"make {name}"), says) for name, says in make_targets()))


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with all its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, each in inner.items():
        yield from commands(each, f"{name} {word}")


def command_lines(name: str, command: Any) -> Lines:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    words = [name, *(["[OPTIONS]"] if options else []), *map(parameter_name, arguments)]
    yield f"    {' '.join(words)}\n"
    yield f"{' '.join((command.help or '').split())}\n"
    if command.params:
        yield from table(
            ("argument or option", "says", "by default"),
            ((code(parameter_name(each)), each.help or "", parameter_default(each)) for each in [*arguments, *options]),
        )
    yield from epilog_lines(command.epilog or "")


VALUES = {str: "TEXT", int: "NUMBER", float: "NUMBER"}


def parameter_name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    if parameter.is_flag:
        return str(parameter.opts[0])
    return f"{parameter.opts[0]} {parameter.metavar or VALUES[parameter.type_descriptor.annotation]}"


def parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "has to be given"
    if not parameter.show_default or parameter.default in (None, False, ""):
        return ""
    return code(parameter.default)


def epilog_lines(text: str) -> Lines:
    """Examples as a block of commands, what else is said as text."""
    examples: list[str] = []
    for paragraph in (part for part in text.strip("\n").split("\n\n") if part.strip()):
        if paragraph.startswith("  "):
            examples.append(paragraph.strip())
        elif not paragraph.startswith("Example"):
            yield f"\n{' '.join(paragraph.split())}"
    if examples:
        yield from ("\n```sh", *examples, "```")


def make_targets() -> list[tuple[str, str]]:
    return re.findall(r"(?m)^([a-z-]+):.*?## (.*)$", (PROJECT_DIR / "Makefile").read_text())


# --- environment ------------------------------------------------------------------------------------------------------


def environment_page() -> Lines:
    yield ENVIRONMENT
    yield from table(
        ("variable", "says", "may be", "unset"),
        ((code(f"DTX_{name}"), each.says, each.allowed, each.unset) for name, each in VARIABLES.items()),
    )
    yield "\nThe same for every system:\n"
    yield from table(
        ("variable", "says", "may be", "unset"),
        ((code(name), each.says, each.allowed, each.unset) for name, each in SHARED_VARIABLES.items()),
    )
    yield OTHER_VARIABLES


# --- mappings ---------------------------------------------------------------------------------------------------------


def mapping_page() -> Lines:
    yield MAPPING
    yield from model_lines("`<Model>.yaml`", TargetMapping)
    yield from model_lines("`archived.yaml`", ArchivedFile)
    yield from model_lines("`decisions.yaml`", DecisionsFile)
    yield from model_lines("`checks.yaml`", ChecksFile)
    yield DECLARATIONS
    yield from model_lines("`tables.yaml`", TablesFile)
    yield from model_lines("`targets.yaml`", TargetsFile)
    yield SAMPLES
    yield from model_lines("`sample.yaml`", SampleFile)
    yield VALUE_MAPS
    yield from table(
        ("value map", "key", "gives"),
        (
            (code(name), code(frame.columns[0]), ", ".join(map(code, frame.columns[1:])))
            for name, frame in SYSTEM.mappings.value_maps.items()
        ),
    )
    yield CROSSWALKS
    yield from table(
        ("name", "kind", "is"),
        (
            (code(asset.name), asset.kind, asset.description)
            for asset in SYSTEM.mapping_assets
            if asset.kind != "value_map"
        ),
    )
    yield TRANSFORMS
    yield from table(
        ("transform", "of", "settings", "gives"),
        (
            (code(name), "any system" if name in GENERIC else SYSTEM.name, settings_of(function), described(function))
            for name, function in SYSTEM.mappings.transforms.transforms.items()
        ),
    )
    yield SHAPES
    yield from table(
        ("function", "named by", "gives"),
        ((code(name), ", ".join(named_by(name)), described(function)) for name, function in FUNCTIONS.items()),
    )


def model_lines(title: str, model: type[BaseModel]) -> Lines:
    schema = model.model_json_schema(by_alias=True)
    parts = {title: schema, **reached(schema, schema.get("$defs", {}))}
    for name, part in parts.items():
        yield f"\n{'##' if name == title else '###'} {name}\n"
        yield f"{part.get('description', '')}\n"
        required = part.get("required", [])
        yield from table(
            ("key", "is", "by default", "says"),
            (
                (
                    code(key),
                    type_text(entry),
                    "has to be given" if key in required else default_text(entry),
                    sentence(entry.get("description", "")),
                )
                for key, entry in part["properties"].items()
            ),
        )


def reached(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that a part of a schema leads to, outer ones first."""
    found: dict[str, Any] = {}
    for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(part.get("properties", {}))):
        found[name] = definitions[name]
    for name in list(found):
        found |= {key: each for key, each in reached(definitions[name], definitions).items() if key not in found}
    return found


TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def type_text(entry: Mapping[str, Any]) -> str:
    """What a schema lets a key be, in words."""
    if "anyOf" in entry:
        return " or ".join(kind for kind in map(type_text, entry["anyOf"]) if kind != "null")
    if "enum" in entry:
        return " or ".join(map(code, entry["enum"]))
    if "$ref" in entry:
        return entry["$ref"].rpartition("/")[2]
    if entry.get("type") == "array":
        return f"list of {type_text(entry['items'])}"
    if entry.get("type") == "object":
        inner = entry.get("additionalProperties")
        return f"names, each with {type_text(inner)}" if isinstance(inner, dict) else "names with values"
    return TYPES.get(str(entry.get("type")), "any value")


def default_text(entry: Mapping[str, Any]) -> str:
    default = entry.get("default")
    return "" if default in (None, [], {}) else code(json.dumps(default))


def settings_of(function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return ", ".join(
        code(each.name if each.default is each.empty else f"{each.name}: {json.dumps(each.default)}")
        for each in parameters
    )


def described(function: Callable[..., Any]) -> str:
    return sentence(inspect.getdoc(function) or "")


def named_by(function: str) -> Iterator[str]:
    for model, mapping in SYSTEM.mappings.targets.items():
        for source, entry in mapping.sources.items():
            yield from (
                f"{role} of {source} in {model}" for role in FUNCTIONS_OF_A_SOURCE if getattr(entry, role) == function
            )


# --- checks -----------------------------------------------------------------------------------------------------------

Check = tuple[str, str, str, str]
"""Name, severity, what it stops, and what holds when it passes."""


def checks_page() -> Lines:
    checks = checks_of_graph()
    yield CHECKS.format(count=sum(map(len, checks.values())))
    layers = dict.fromkeys(asset.partition("/")[0] for asset in checks)
    for layer in layers:
        of_layer = {asset.partition("/")[2]: found for asset, found in checks.items() if asset.startswith(f"{layer}/")}
        yield f"\n## {layer}\n"
        yield from table(
            ("check", "of", "severity", "stops", "holds when it passes"),
            (
                (code(name), assets_text(assets, of_layer), severity, stops, says)
                for (name, severity, stops, says), assets in by_check(of_layer).items()
            ),
        )
    yield OTHER_OPTIONS
    yield from table(("decision and option", "checks"), added_by_options())
    yield KNOWN_ISSUES
    yield from table(
        ("plan", "says", "checks"),
        (
            (name, plan_text(name), ", ".join(map(code, checks)))
            for name, checks in sorted(covers(SYSTEM).items(), key=lambda entry: plan_order(entry[0]))
        ),
    )


def checks_of_graph() -> dict[str, list[Check]]:
    """The checks of each asset (`layer/name`), as Dagster has them."""
    graph = build_definitions(SYSTEM).resolve_asset_graph()
    found: dict[str, list[Check]] = {}
    for key in sorted(graph.asset_check_keys, key=lambda key: (key.asset_key.path, key.name)):
        spec = graph.get_check_spec(key)
        severity = str(spec.metadata.get("severity", dg.AssetCheckSeverity.ERROR.value))
        of_asset = found.setdefault(asset_name(key.asset_key), [])
        of_asset.append((spec.name, severity, stopped_by(spec), own_description(spec)))
    return found


def stopped_by(spec: dg.AssetCheckSpec) -> str:
    if spec.blocking:
        return "what depends on it"
    return "a cutover" if spec.metadata.get(BLOCKS) else ""


def by_check(checks: Mapping[str, Sequence[Check]]) -> dict[Check, list[str]]:
    """The assets of each check that is the same for several; those of many assets first."""
    found: dict[Check, list[str]] = {}
    for asset, of_asset in checks.items():
        for check in of_asset:
            found.setdefault(check, []).append(asset)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))


def assets_text(assets: Sequence[str], of_layer: Mapping[str, Any]) -> str:
    return f"all {len(assets)}" if len(assets) == len(of_layer) > 1 else ", ".join(assets)


def added_by_options() -> Iterator[tuple[str, str]]:
    before = names_of_checks(SYSTEM.decisions.chosen)
    for decision in SYSTEM.decisions.entries:
        for option in decision.options:
            added = names_of_checks({**SYSTEM.decisions.chosen, decision.key: option})
            if more := [name for name in added if name not in before]:
                yield code(f"{decision.key}: {option}"), ", ".join(map(code, more))


def names_of_checks(chosen: Mapping[str, str]) -> list[str]:
    system = SYSTEM.under(replace(SYSTEM.decisions, chosen=chosen))
    return [f"{'/'.join(group.asset)}:{spec.name}" for group in check_groups(system) for spec in group.specs]


def plan_order(name: str) -> list[int]:
    area, number = name.removeprefix("A").split("-")
    return [int(area), number.startswith("K"), int(number.removeprefix("K"))]


def plan_text(name: str) -> str:
    entries = {
        **{action.id: action.text for action in SYSTEM.decisions.actions},
        **{issue.id: issue.issue for issue in SYSTEM.decisions.known_issues},
    }
    return sentence(entries[name])


# --- writing ----------------------------------------------------------------------------------------------------------

PAGES = {
    "commands.md": commands_page,
    "environment.md": environment_page,
    "mapping.md": mapping_page,
    "checks.md": checks_page,
}


def rendered() -> dict[Path, str]:
    """The text of every file that is rendered from the code, by its path."""
    pages = {
        PROJECT_DIR / "docs" / "reference" / name: "\n".join((GENERATED, *page())) + "\n"
        for name, page in PAGES.items()
    }
    schemas = {
        "mapping.schema.json": mapping_schema(),
        "checks.schema.json": checks_schema(),
        "feed.schema.json": feed_schema(),
    }
    return pages | {MAPPINGS_DIR.parent / name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def main() -> None:
    for path, text in rendered().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
