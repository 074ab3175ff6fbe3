"""A file that stands for people who have said nothing: for showing a whole migration on a sample, and for nothing else.

`dtx sample --clean` writes it beside the sample, a user names it in `<SYSTEM>_DEMONSTRATION`, and then each decision
counts as confirmed, each action as done, each question as answered. Nobody may cut over in earnest by it: it names the
digest of the sample, and it is refused beside any other data, and with any target but the embedded database.
"""

from collections.abc import Collection, Iterable
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.decisions import Decisions

DEMONSTRATION = "demonstration.yaml"
HEAD = """\
# For a demonstration, and for nothing else: `dtx sample --clean` wrote it. Nobody has confirmed, done or answered any
# of this. Where {variable} names this file, it counts as if all of it were: with this sample as it was
# written, and with the embedded database, and nowhere else.
"""


class Demonstration(BaseModel):
    """What counts as said by people, and for which sample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(description="the migration that it is of")
    sample: str = Field(description="the digest of the sample that it stands for")
    confirmed: tuple[str, ...] = Field((), description="decisions that count as confirmed")
    done: tuple[str, ...] = Field((), description="actions that count as done")
    answered: dict[str, str] = Field({}, description="questions of the cutover that count as answered, and how")
    path: Path = Path()
    """Where it was read."""

    @property
    def says(self) -> str:
        """What people have to know who look at anything that was made with it."""
        return (
            f"{self.path.name} stands for everybody who has to confirm, do or answer anything. Nothing of that is in"
            " decisions.yaml, and it counts for this sample and the embedded database alone."
        )

    @property
    def noted(self) -> dict[str, Any]:
        """What stays of it in the target database, beside each run that was made with it."""
        return self.model_dump(mode="json", exclude={"system", "path"})

    @property
    def told(self) -> str:
        return f"A demonstration: {self.says}"


def read_demonstration(path: Path, system: str, decisions: "Decisions") -> Demonstration:
    """ConfigurationError with file and line where it names what there is not, or is of another migration."""
    findings = Findings()
    file = YamlFile(path)
    said = parse_model(file, Demonstration, findings)
    if said and said.system != system:
        findings.add(
            f"it is a demonstration of {said.system}, and this is {system}",
            file.where(["system"]),
            f"name the file that `dtx sample {system} --clean` wrote",
        )
    elif said:
        named: tuple[tuple[str, Iterable[str], Collection[str]], ...] = (
            ("confirmed", said.confirmed, [entry.key for entry in decisions.entries]),
            ("done", said.done, [action.id for action in decisions.actions]),
            ("answered", said.answered, [question.name for question in decisions.questions]),
        )
        for key, names, known in named:
            for name in set(names) - {*known}:
                findings.add(f"there is no {name!r} to be {key}", file.where([key]), suggestion(name, known))
    findings.raise_if_any()
    if said is None:
        raise AssertionError("a file that does not parse has findings")
    return said.model_copy(update={"path": path})


def write_demonstration(directory: Path, system: str, decisions: "Decisions") -> Path:
    """Write beside a sample what is open in the repository, as said for that sample alone."""
    import yaml

    said = Demonstration(
        system=system,
        sample=digest_of_sample(directory),
        confirmed=tuple(entry.key for entry in decisions.entries if entry.status == "open"),
        done=tuple(action.id for action in decisions.actions if action.status == "open"),
        answered={question.name: "a sample, for a demonstration" for question in decisions.questions},
    )
    path = directory / DEMONSTRATION
    content = yaml.safe_dump(
        said.model_dump(mode="json", exclude={"path"}), sort_keys=False, allow_unicode=True, width=120
    )
    path.write_text(HEAD.format(variable=f"{system.upper()}_DEMONSTRATION") + content, "utf-8")
    return path


def digest_of_sample(directory: Path) -> str:
    """One digest of all files of a sample by name and bytes, but for the one that states it."""
    whole = sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != DEMONSTRATION):
        with path.open("rb") as file:
            whole.update(
                f"{path.relative_to(directory).as_posix()}\0{file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return whole.hexdigest()


def require_it_stands(said: Demonstration, settings: Settings) -> None:
    """ConfigurationError where the data are not the sample that it stands for, or where the target is a real one."""
    variable = f"{settings.system.upper()}_DEMONSTRATION"
    if settings.target_url is not None:
        raise ConfigurationError(
            "a demonstration goes into the embedded database alone, and another target is named",
            where=f"{variable} = {said.path}",
            remedy=f"unset {variable}, or {settings.system.upper()}_TARGET_URL",
        )
    directory = Path(settings.legacy_url)
    if not directory.is_dir() or settings.crosswalk_url != settings.legacy_url:
        raise ConfigurationError(
            "a demonstration is one of its sample alone, and the data lie elsewhere",
            where=f"{variable} = {said.path}",
            remedy=f"unset {variable}, or have {settings.system.upper()}_LEGACY_URL name the directory of the sample,"
            " and nothing else",
        )
    if digest_of_sample(directory) != said.sample:
        raise ConfigurationError(
            f"the files in {directory} are not the sample that the demonstration stands for, or were changed since",
            where=f"{variable} = {said.path}",
            remedy=f"unset {variable}, or write the sample anew: dtx sample {settings.system} --clean DIRECTORY",
        )
