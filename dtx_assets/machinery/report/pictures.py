"""Where the boxes and lines of the page's pictures lie, in pixels of an SVG; drawing them is the templates' business.

The columns of both pictures are given, by what the boxes are, so that only the order within a column has to be found.
That is why no layout library is used: those choose columns of their own, or need a program beside Python.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dtx_assets.machinery.report.flow import Share, TableFlow
from dtx_assets.machinery.report.lineage import Node

CHARACTER = 6.7
"""Pixels of an average character in the pictures' type size."""
SWEEPS = 8


@dataclass(frozen=True)
class Box:
    name: str
    label: str
    title: str
    kind: str
    href: str
    x: float
    y: float
    width: float
    height: float
    rows: int | None = None
    layer: str = ""
    """What goes before the label where the column does not say it."""


@dataclass(frozen=True)
class Line:
    path: str
    title: str
    kind: str
    ends: tuple[int, int]
    """The places of the two boxes among the picture's."""
    width: float = 1.0


@dataclass(frozen=True)
class Picture:
    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    headings: tuple[tuple[float, str], ...] = ()


def shortened(text: str, width: float) -> str:
    """The text, cut where it would be wider than so many pixels."""
    fits = max(4, int(width / CHARACTER))
    return text if len(text) <= fits else f"{text[: fits - 1]}…"


# --- where the rows of each table went --------------------------------------------------------------------------------

BAR, TABLE_LABELS, OUTCOME_LABELS, FLOW_WIDTH = 12.0, 205.0, 425.0, 1120.0
PIXELS_OF_ALL_ROWS, THINNEST, LOWEST, GAP = 420.0, 1.2, 17.0, 7.0
FATES = {"migrated": "", "archived": "", "rejected": "Rejected: ", "dropped": "Dropped: "}
"""The kinds of shares in the order in which they are drawn, with what goes before their labels."""


def flow_picture(flows: Sequence[TableFlow]) -> Picture:
    """Ribbons from each legacy table to what became of its rows, as thick as there are rows."""
    flows = [flow for flow in flows if flow.shares]
    outcomes: dict[tuple[str, str], int] = {}
    for kind in FATES:
        for flow in flows:
            for share in flow.shares:
                if share.kind == kind:
                    outcomes[kind, share.label] = outcomes.get((kind, share.label), 0) + share.rows
    total = sum(outcomes.values())
    scale = PIXELS_OF_ALL_ROWS / total if total else 0.0
    places = {outcome: place for place, outcome in enumerate(outcomes)}

    def order(share: Share) -> int:
        return places[share.kind, share.label]

    def thickness(share: Share) -> float:
        return max(THINNEST, share.rows * scale)

    def bar(name: str, label: str, kind: str, href: str, x: float, y: float, shares: Iterable[Share], rows: int) -> Box:
        room = (TABLE_LABELS if kind == "table" else OUTCOME_LABELS) - CHARACTER * (len(f"{rows:,}") + 2)
        height = max(LOWEST, sum(map(thickness, shares)))
        title = f"{label}: {rows:,} rows of the source"
        return Box(name, shortened(label, room), title, kind, href, x, y, BAR, height, rows)

    boxes: list[Box] = []
    y = 0.0
    for flow in flows:
        boxes.append(
            bar(flow.table, flow.table, "table", f"table-{flow.table}", TABLE_LABELS, y, flow.shares, flow.read)
        )
        y += boxes[-1].height + GAP
    left_height, y = y, 0.0
    for (kind, label), rows in outcomes.items():
        shares = [share for flow in flows for share in flow.shares if (share.kind, share.label) == (kind, label)]
        href = {"rejected": "rejected", "migrated": "mapping"}.get(kind, "")
        boxes.append(bar(label, FATES[kind] + label, kind, href, FLOW_WIDTH - OUTCOME_LABELS - BAR, y, shares, rows))
        y += boxes[-1].height + GAP

    lines = []
    used = [0.0] * len(boxes)
    for start, flow in enumerate(flows):
        for share in sorted(flow.shares, key=order):
            end, thick = len(flows) + order(share), thickness(share)
            y0, y1 = (boxes[place].y + used[place] + thick / 2 for place in (start, end))
            used[start] += thick
            used[end] += thick
            x0, x1 = boxes[start].x + BAR, boxes[end].x
            title = f"{flow.table} → {FATES[share.kind]}{share.label}: {share.rows:,} rows"
            lines.append(Line(curve(x0, y0, x1, y1), title, share.kind, (start, end), round(thick, 2)))
    return Picture(FLOW_WIDTH, max(left_height, y), tuple(boxes), tuple(lines))


def curve(x0: float, y0: float, x1: float, y1: float) -> str:
    """A path from one point to another that leaves and arrives level; a loop to the side where it would go back."""
    reach = (x1 - x0) / 2 if x1 > x0 else 60.0
    return f"M{x0:.1f} {y0:.1f}C{x0 + reach:.1f} {y0:.1f} {x1 - reach:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


# --- the asset graph of an area ---------------------------------------------------------------------------------------

COLUMNS = (
    ("What there is", ("legacy", "crosswalk")),
    ("What decides, and the archive", ("decision", "mapping", "archive")),
    ("Prepared", ("prepared", "rejected")),
    ("Loaded", ("target",)),
)
"""The columns of the lineage picture: heading and layers; what other areas own and is read stands in the first."""
ROWS_OF = {
    **dict.fromkeys(("legacy", "archive", "rejected"), " of the source"),
    **dict.fromkeys(("prepared", "target"), " of the target"),
}
"""What the rows of a layer are rows of."""
LAYERS_TOLD = ("archive", "decision", "mapping", "rejected")
"""Those that share a column with others."""
NODE_WIDTH, NODE_HEIGHT, NODE_GAP, COLUMN_GAP, HEADING = 262.0, 26.0, 8.0, 48.0, 30.0


def lineage_picture(nodes: Sequence[Node]) -> Picture:
    """The assets of an area in columns by what they are, so that few lines cross, each near its neighbours."""
    columns = arranged(nodes)
    tallest = max((len(column) for column in columns), default=0)
    rows_from_top = levelled(columns, neighbours_of(nodes))
    boxes: list[Box] = []
    places: dict[str, int] = {}
    for number, column in enumerate(columns):
        for node in column:
            places[node.key] = len(boxes)
            rows = "" if node.rows is None else f"{node.rows:,}"
            layer = node.layer if node.layer in LAYERS_TOLD else ""
            told = (
                f", {rows} rows{ROWS_OF.get(node.layer, '')}"
                if rows
                else ("" if node.made_here else ", another area's or not filled")
            )
            boxes.append(
                Box(
                    node.key,
                    shortened(node.name, NODE_WIDTH - 26 - CHARACTER * (len(rows) + len(layer) + bool(layer))),
                    f"{node.key}{told}",
                    node.layer if node.made_here or node.layer == "decision" else f"{node.layer} outside",
                    node.href,
                    number * (NODE_WIDTH + COLUMN_GAP),
                    HEADING + rows_from_top[node.key] * (NODE_HEIGHT + NODE_GAP),
                    NODE_WIDTH,
                    NODE_HEIGHT,
                    node.rows,
                    layer,
                )
            )
    lines = []
    for node in nodes:
        for parent in node.parents:
            start, end = boxes[places[parent]], boxes[places[node.key]]
            path = curve(start.x + start.width, start.y + NODE_HEIGHT / 2, end.x, end.y + NODE_HEIGHT / 2)
            if start.x == end.x:
                path = beside(start.x + start.width, start.y + NODE_HEIGHT / 2, end.y + NODE_HEIGHT / 2)
            kind = "rejected" if "rejected" in (start.kind, end.kind) else "line"
            lines.append(Line(path, f"{parent} → {node.key}", kind, (places[parent], places[node.key])))
    return Picture(
        len(COLUMNS) * (NODE_WIDTH + COLUMN_GAP) - COLUMN_GAP,
        HEADING + tallest * (NODE_HEIGHT + NODE_GAP),
        tuple(boxes),
        tuple(lines),
        tuple((number * (NODE_WIDTH + COLUMN_GAP), heading) for number, (heading, _) in enumerate(COLUMNS)),
    )


def beside(x: float, y0: float, y1: float) -> str:
    """A bow on the right side of a column."""
    return f"M{x:.1f} {y0:.1f}C{x + 50:.1f} {y0:.1f} {x + 50:.1f} {y1:.1f} {x:.1f} {y1:.1f}"


def arranged(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes by column; each stands where the middle of its neighbours is, after some sweeps to and fro.

    Archives hang below what decides, and what is only archived below the other tables.
    """
    columns: list[list[Node]] = [[] for _ in COLUMNS]
    for node in sorted(nodes, key=lambda node: node.key):
        columns[column_of(node, nodes)].append(node)
    neighbours = neighbours_of(nodes)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            heights = relative_heights(columns)
            for node in column:
                heights.pop(node.key)
            column.sort(key=partial(place_among, neighbours=neighbours, heights=heights))
    return columns


def neighbours_of(nodes: Sequence[Node]) -> dict[str, set[str]]:
    neighbours = {node.key: set(node.parents) for node in nodes}
    for node in nodes:
        for parent in node.parents:
            neighbours[parent].add(node.key)
    return neighbours


def levelled(columns: Sequence[Sequence[Node]], neighbours: Mapping[str, set[str]]) -> dict[str, float]:
    """How many rows from the top each node stands: as near to the level of its neighbours as its column lets it.

    The tallest column is full. In every other one the order stays, and nothing stands in another's place.
    """
    tallest, rows = max(map(len, columns), default=0), centred(columns)
    for _ in range(SWEEPS):
        for column in columns:
            own = {node.key for node in column}
            elsewhere = {key: row for key, row in rows.items() if key not in own}
            free = 0.0
            wanted: list[float] = []
            for row, node in enumerate(column):
                if (sought := middle_of_neighbours(node, neighbours, elsewhere)) is not None:
                    # Of an archive a row below: what its table is made into goes past it.
                    free = sought - row + (node.layer == "archive")
                wanted.append(free)
            for row, (node, above) in enumerate(zip(column, ascending(wanted), strict=True)):
                rows[node.key] = row + min(max(above, 0.0), tallest - len(column))
    return rows


def ascending(values: Iterable[float]) -> list[float]:
    """The values that never fall and are together nearest to the given ones, by the squares of their distances."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, so_many = pools.pop()
            total, count = total + before, count + so_many
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


def column_of(node: Node, nodes: Iterable[Node]) -> int:
    read = node.layer == "target" and not node.parents and any(node.key in other.parents for other in nodes)
    return 0 if read else next(number for number, (_, layers) in enumerate(COLUMNS) if node.layer in layers)


def place_among(
    node: Node, neighbours: Mapping[str, set[str]], heights: Mapping[str, float]
) -> tuple[bool, float, str]:
    """What a column is sorted by; what is connected to nothing goes to its end."""
    middle = middle_of_neighbours(node, neighbours, heights)
    return node.layer == "archive", 2.0 if middle is None else middle, node.name


def middle_of_neighbours(node: Node, neighbours: Mapping[str, set[str]], heights: Mapping[str, float]) -> float | None:
    """The mean height of those that have one; archives follow their tables, not the other way round."""
    others = neighbours[node.key] & heights.keys()
    beside = {key for key in others if not key.startswith("archive/")} or others
    return sum(heights[key] for key in beside) / len(beside) if beside else None


def relative_heights(columns: Sequence[Sequence[Node]]) -> dict[str, float]:
    """Where each node stands in its column, from 0 to 1, the columns being centred on one another."""
    tallest = max(map(len, columns), default=0) or 1
    return {key: row / tallest for key, row in centred(columns).items()}


def centred(columns: Sequence[Sequence[Node]]) -> dict[str, float]:
    """How many rows from the top each node stands where the columns are centred on one another."""
    tallest = max(map(len, columns), default=0)
    return {node.key: row + (tallest - len(column)) / 2 for column in columns for row, node in enumerate(column)}
