"""The picture of the trend: what was rejected and what stood in the way after each whole run, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass

from dtx_assets.machinery.report.readiness import RunRow

RUNS_DRAWN = 12
WIDTH, HEIGHT, LABEL, GAP, WIDEST = 340.0, 120.0, 16.0, 6.0, 40.0
THINNEST = 2.0


@dataclass(frozen=True)
class TrendBar:
    """A run, as a bar as high as its number among the others; one of nothing is a line."""

    run_id: str
    title: str
    value: int
    figure: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class TrendPanel:
    """The bars of one number, the oldest first; `told` says the same in words."""

    heading: str
    kind: str
    told: str
    bars: tuple[TrendBar, ...]
    width: float = WIDTH
    height: float = HEIGHT + LABEL


def trend_panels(runs: Iterable[RunRow]) -> tuple[TrendPanel, ...]:
    """Of the last whole runs, which come the latest first; those of a part cannot be compared with them, nor one with
    none."""
    whole = [run for run in runs if run.whole][:RUNS_DRAWN][::-1]
    rejected = [(run, run.figures.rejected) for run in whole if run.figures and run.figures.rejected is not None]
    points = [(run, run.points) for run in whole if run.points is not None]
    panels = (
        ("Rejected rows of the source", "rejected", "run rejected", rejected),
        ("Points in the way of a cutover", "dropped", "run points", points),
    )
    return tuple(trend_panel(*panel) for panel in panels if len(panel[-1]) > 1)


def trend_panel(heading: str, kind: str, figure: str, shown: list[tuple[RunRow, int]]) -> TrendPanel:
    most = max(value for _, value in shown) or 1
    room = WIDTH / len(shown)
    width = min(WIDEST, room - GAP)
    bars = []
    for place, (run, value) in enumerate(shown):
        height = max(THINNEST, HEIGHT * value / most)
        title = f"{run.started_at:%Y-%m-%d %H:%M} UTC: {value:,}"
        x = place * room + (room - width) / 2
        bars.append(TrendBar(run.run_id, title, value, figure, x, LABEL + HEIGHT - height, width, height))
    told = f"{heading}, the oldest run first: {', '.join(f'{value:,}' for _, value in shown)}"
    return TrendPanel(heading, kind, told, tuple(bars))
