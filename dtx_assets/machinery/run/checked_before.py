"""What the checks of an asset found before: where nothing that they read has changed, that holds still.

What an evaluation asks for is noted as it asks, so that nothing has to be declared. Who asks for more than datasets and
declarations, such as the live target or the time, is asked anew.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any, cast

import polars as pl

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.world import world_of

LAYER = "checked"
MANY_ROWS = 50_000
"""What reads fewer is asked anew: to keep what it found takes as long."""
OF_THE_WORLD = frozenset({"mode", "legacy_timezone", "batch_rows", "load_connections", "home"})
"""Settings that are the same in the same world, or say only how fast something is and where it may write meanwhile."""
OF_THE_TARGET = ("target", "options of the target")
"""Parts of the world that make no difference to who does not ask the target."""


def outcomes(group: CheckGroup, context: CheckContext, environment: RunEnvironment) -> dict[str, CheckOutcome]:
    """The outcome of each check of a group by name; in a cutover, and where all is small, by asking all of them."""
    if environment.mode == "cutover" or _rows_read(group, environment) < MANY_ROWS:
        return group.evaluate(context)
    before = CheckedBefore(environment, group)
    found: dict[str, CheckOutcome] = {}
    for place, part in enumerate(group.parts or (group,)):
        known = before.found(place, part)
        found |= known if known is not None else before.asked(place, part, context)
    before.note()
    return found


def _rows_read(group: CheckGroup, environment: RunEnvironment) -> int:
    needs = (environment.lake.manifest((environment.system.name, *need)) for need in group.needs)
    return sum(table.rows for manifest in needs if manifest for table in manifest.tables.values())


class CheckedBefore:
    """What was found of the parts of a group when they were asked last, beside what they read then."""

    def __init__(self, environment: RunEnvironment, group: CheckGroup) -> None:
        self.lake, self.run_id = environment.lake, environment.run_id
        self.key = (environment.system.name, LAYER, ".".join(group.asset))
        world = {name: part for name, part in world_of(environment).items() if name not in OF_THE_TARGET}
        self.world = {**world, "decided": sha256(repr(environment.decisions).encode()).hexdigest()}
        # While no time is set, it is another one whenever somebody asks.
        self.told = OF_THE_WORLD | ({"cutover_at"} if environment.settings.cutover_at else set())
        self.kept = self._kept()
        self.has_new = False

    def _kept(self) -> dict[int, dict[str, Any]]:
        manifest = self.lake.manifest(self.key)
        if manifest is None or not self.lake.is_complete(manifest) or manifest.metadata["world"] != self.world:
            return {}
        return {row["part"]: row for row in self.lake.scan(self.key, manifest=manifest).collect().to_dicts()}

    def found(self, place: int, part: CheckGroup) -> dict[str, CheckOutcome] | None:
        """What a part found, where all that it read is as it was; None where it has to be asked."""
        kept = self.kept.get(place)
        if kept is None or any(
            version_of(self.lake.manifest(name.split("/"))) != version
            for name, version in json.loads(kept["read"]).items()
        ):
            return None
        return {name: _outcome(each, kept["run"]) for name, each in json.loads(kept["found"]).items()}

    def asked(self, place: int, part: CheckGroup, context: CheckContext) -> dict[str, CheckOutcome]:
        """Asks a part, and keeps what it found where all that it read can be named."""
        lake, settings, target = _NotingLake(context.lake), _NotingSettings(context.settings), _Target(context)
        # What others made of the declarations may hold what they read of the lake.
        noting = replace(context, lake=lake, settings=cast(Settings, settings), target_url=target.url(), made={})
        found = part.evaluate(noting)
        self.kept.pop(place, None)
        self.has_new = True
        if not target.was_asked and settings.asked <= self.told and (text := _as_text(found)):
            self.kept[place] = {"part": place, "run": self.run_id, "read": json.dumps(lake.read), "found": text}
        return found

    def note(self) -> None:
        """Keeps what was found now beside what was found before."""
        if self.has_new and self.kept:
            with self.lake.write(self.key, run_id=self.run_id) as writer:
                writer.metadata = {"world": self.world}
                writer.add(pl.DataFrame(list(self.kept.values()), schema=KEPT))


KEPT = {"part": pl.Int64, "run": pl.String, "read": pl.String, "found": pl.String}


def version_of(manifest: Manifest | None) -> str | None:
    return manifest.version if manifest else None


def _as_text(found: Mapping[str, CheckOutcome]) -> str | None:
    """None where facts are no JSON."""
    try:
        return json.dumps({name: asdict(outcome) for name, outcome in found.items()}, default=sorted)
    except TypeError:
        return None


def _outcome(kept: Mapping[str, Any], run_id: str) -> CheckOutcome:
    obstacles = (Obstacle(**{**each, "checks": frozenset(each["checks"])}) for each in kept["obstacles"])
    return CheckOutcome(**{**kept, "obstacles": tuple(obstacles), "found_in": run_id})


class _NotingLake(Lake):
    """A lake that notes which datasets it was asked for, with the version that each had."""

    def __init__(self, lake: Lake) -> None:
        vars(self).update(vars(lake))
        self.read: dict[str, str | None] = {}

    def manifest(self, key: Sequence[str]) -> Manifest | None:
        found = super().manifest(key)
        self.read["/".join(key)] = version_of(found)
        return found


class _NotingSettings:
    """Settings that note what they were asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._settings, name)


class _Target:
    """Where the live target is, and whether anybody asked."""

    def __init__(self, context: CheckContext) -> None:
        self._url = context.target_url
        self.was_asked = False

    def url(self) -> Callable[[], str] | None:
        return self._asked if self._url else None

    def _asked(self) -> str:
        assert self._url
        self.was_asked = True
        return self._url()
