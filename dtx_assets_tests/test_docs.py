"""What the pages name is there: pages, files, commands with their options, variables, make targets, checks."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from dtx_assets.cli import main as cli
from dtx_assets.cli import reference
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.failpoints import FAILPOINT
from dtx_assets.machinery.base.settings import SHARED_VARIABLES, VARIABLES
from dtx_assets.machinery.checks.gate import RESTORE_POINT
from dtx_assets.machinery.checks.obstacles import rejected_names
from dtx_assets_tests.pages import BLOCK, DOCS, PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "deploy" / "README.md", *sorted(DOCS.rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.name != "bad-inputs.md"]
"""What people type is in these; the table of bad inputs has what they mistype."""
LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)", re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
FOLDERS = ("dtx_assets/", "dtx_assets_tests/", "mappings/", "docs/", "deploy/", "benchmarks/")
OTHERS = ("DTX_FAILPOINT_PROOF", "DTX_FAILPOINT_TRACE", FAILPOINT)

of_each_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(PROJECT)))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def code(page: Path) -> str:
    """What a page shows as code, a line each: blocks and words in the text; files of the reader's own left out."""
    text = page.read_text()
    blocks = [content for name, kind, content in BLOCK.findall(text) if not name and kind == "sh"]
    return "\n".join([*blocks, *(" ".join(words.split()) for words in INLINE.findall(BLOCK.sub("", text)))])


@cache
def parser() -> dict[str, set[str]]:
    """The options of each command."""
    found = reference.commands(typer.main.get_command(cli.app), "dtx")
    return {
        name: {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        for name, command in found
    }


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `dtx` command of a page, up to what the shell does next."""
    for line in code(page).replace("\\\n", " ").splitlines():
        for found in re.finditer(r"(?:^|[;|&({] ?|PATH |/)(dtx [a-z].*)", line):
            text = re.split(r" (?:#|\||\|\||&&|>) |;", found[1].replace("…", "ellipsis"))[0]
            try:
                yield shlex.split(text)
            except ValueError:
                yield text.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page):
    broken = [f"{path}#{anchor}" for path, anchor in links(page) if not path.exists()]
    broken += [
        f"{path}#{anchor}" for path, anchor in links(page) if anchor and path.exists() and anchor not in anchors(path)
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached: set[Path] = set()
    ahead = {PROJECT / "README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead |= {path for path, _ in links(page) if path.suffix == ".md"} - reached
    assert set(PAGES) - reached == set()


@of_each_page
def test_commands_have_the_options_they_are_shown_with(page):
    wrong = []
    for words in commands(page):
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in parser()), None)
        if name is None:
            wrong.append(" ".join(words))
            continue
        given = words[: words.index("--")] if "--" in words else words
        wrong += [
            f"{name} {word}" for word in given if word.startswith("--") and word not in {*parser()[name], "--help"}
        ]
    assert wrong == []


def test_the_commands_are_found_at_all():
    found = [" ".join(words) for words in commands(DOCS / "production.md")]
    assert "dtx ui --read-only" in found
    assert any(command.startswith("dtx run --mode cutover --restore-point") for command in found)


def test_dtx_is_called_in_one_way_which_the_readme_says_once():
    otherwise = re.compile(r"bin/dtx\b|-m dtx_assets\.cli|uv run dtx|\./dtx\b")
    wrong = [
        f"{page.name}: {line}" for page in PAGES for line in page.read_text().splitlines() if otherwise.search(line)
    ]
    assert wrong == []
    said = [page.name for page in PAGES for _ in re.finditer(r"bin/activate", page.read_text())]
    assert said == ["README.md"]
    for page in PAGES:
        if "on the [`PATH`]" in page.read_text():
            assert (PROJECT / "README.md", "your-own-data") in links(page)


@of_each_page
def test_variables_make_targets_and_files_are_there(page):
    text = code(page)
    known = {*(f"DTX_{name}" for name in VARIABLES), *SHARED_VARIABLES, *OTHERS}
    assert {name for name in re.findall(r"\bDTX_[A-Z_]+\b", text) if name not in known} == set()
    targets = {name for name, _ in reference.make_targets()}
    assert {name for name in re.findall(r"(?:^|[^\w])make ([a-z-]+)", text) if name not in targets} == set()
    own = {name for name, _, _ in BLOCK.findall(page.read_text()) if name}
    # What `dtx init` writes is the reader's own too.
    made = tuple(f"mappings/{system}/" for system in re.findall(r"\bdtx init (\w+)", text))
    named = {word for word in re.findall(r"[\w./-]+/[\w./-]*\w", text) if word.startswith(FOLDERS)} - own
    named = {name for name in named if not name.startswith(made)}
    assert {name for name in named if "NAME" not in name and not (PROJECT / name).exists()} == set()


@of_each_page
def test_checks_that_are_accepted_are_there(page):
    checks = {f"{asset}:{check[0]}" for asset, found in reference.checks_of_graph().items() for check in found}
    known = checks | {name.partition(":")[2] for name in checks} | {RESTORE_POINT}
    known |= {question.name for question in SYSTEM.questions} | rejected_names(SYSTEM)
    known |= {decision.key for decision in SYSTEM.decisions.entries} | {
        action.id for action in SYSTEM.decisions.actions
    }
    for name in re.findall(r"--accept '([^=']+)=", page.read_text().replace("\n", " ")):
        assert name in known
