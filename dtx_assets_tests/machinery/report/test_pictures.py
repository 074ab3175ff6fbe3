"""The geometry of the pictures: nothing overlaps, nothing is left out, ribbons fill the bars they run between."""

from collections import defaultdict
from itertools import accumulate, combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.report.flow import Share, TableFlow
from dtx_assets.machinery.report.lineage import Node
from dtx_assets.machinery.report.pictures import (
    NODE_GAP,
    Picture,
    arranged,
    ascending,
    flow_picture,
    lineage_picture,
    shortened,
)


def node(key: str, *parents: str, here: bool = True) -> Node:
    layer, name = key.split("/")
    return Node(key, layer, name, "zoo", "", 3, None, here, parents)


def flow(table: str, **rows: int) -> TableFlow:
    shares = tuple(Share(*name.split("_", 1), count) for name, count in rows.items())
    return TableFlow(table, "zoo", sum(rows.values()), (), shares)


NODES = [
    node("legacy/a"),
    node("legacy/b"),
    node("target/Account", here=False),
    node("mapping/account", "target/Account"),
    node("mapping/twice", "mapping/account"),
    node("archive/a", "legacy/a"),
    node("archive/b", "legacy/b"),
    node("prepared/A", "legacy/a", "mapping/account"),
    node("rejected/A", "legacy/a", "mapping/account"),
    node("target/A", "prepared/A", "rejected/A"),
    node("target/Unfilled", here=False),
    node("mapping/after", "target/A"),
]


def overlaps(picture: Picture) -> list[tuple[str, str]]:
    return [
        (one.name, other.name)
        for one, other in combinations(picture.boxes, 2)
        if one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    ]


def test_every_asset_has_a_box_of_its_own_and_every_dependency_a_line():
    picture = lineage_picture(NODES)
    assert sorted(box.name for box in picture.boxes) == sorted(node.key for node in NODES)
    assert overlaps(picture) == []
    drawn = {
        (picture.boxes[start].name, picture.boxes[end].name) for start, end in (line.ends for line in picture.lines)
    }
    assert drawn == {(parent, node.key) for node in NODES for parent in node.parents}
    assert all(box.x >= 0 and box.x + box.width <= picture.width for box in picture.boxes)
    assert all(box.y >= 0 and box.y + box.height <= picture.height for box in picture.boxes)


def test_what_other_areas_own_and_is_read_stands_with_the_sources():
    columns = [[node.key for node in column] for column in arranged(NODES)]
    assert "target/Account" in columns[0]
    assert columns[3] == ["target/A", "target/Unfilled"]
    assert columns[1][-2:] == ["archive/a", "archive/b"]


def test_neighbours_stand_at_the_same_height_so_that_lines_do_not_cross():
    crossed = [node("legacy/1"), node("legacy/2"), node("prepared/X", "legacy/2"), node("prepared/Y", "legacy/1")]
    names = [[node.name for node in column] for column in arranged(crossed)]
    assert names[0].index("1") == names[2].index("Y")
    assert names[0].index("2") == names[2].index("X")


def test_of_many_tables_each_box_stands_beside_what_it_is_made_from():
    """However long the columns are: a line that crosses a page leads nobody anywhere."""
    many = [f"{number:03}" for number in range(170)]
    nodes = [
        each
        for name in many
        for each in (
            node(f"legacy/{name}"),
            node(f"archive/{name}", f"legacy/{name}"),
            node(f"prepared/{name}", f"legacy/{name}"),
            node(f"rejected/{name}", f"legacy/{name}"),
            node(f"target/{name}", f"prepared/{name}", f"rejected/{name}"),
        )
    ]
    picture = lineage_picture([*nodes, *(node(f"legacy/only archived {n}") for n in range(3))])
    assert overlaps(picture) == []
    falls = [abs(picture.boxes[start].y - picture.boxes[end].y) for start, end in (line.ends for line in picture.lines)]
    assert max(falls) <= 3 * (picture.boxes[0].height + NODE_GAP)
    assert all(box.y >= 0 and box.y + box.height <= picture.height for box in picture.boxes)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12))
def test_what_never_falls_is_nearest_to_what_was_wanted(wanted):
    found = ascending(wanted)
    assert all(one <= other + 1e-9 for one, other in pairwise(found))
    error = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
    for other in (sorted(wanted), [sum(wanted) / len(wanted)] * len(wanted), list(accumulate(wanted, max))):
        assert error <= sum((a - b) ** 2 for a, b in zip(other, wanted, strict=True)) + 1e-6


def test_ribbons_fill_the_bars_they_leave_and_reach():
    flows = [flow("a", migrated_A=600, rejected_bad=200), flow("b", migrated_A=100, archived_Archive=100)]
    picture = flow_picture(flows)
    assert overlaps(picture) == []
    widths: dict[int, float] = defaultdict(float)
    for line in picture.lines:
        for end in line.ends:
            widths[end] += line.width
    for place, box in enumerate(picture.boxes):
        assert abs(box.height - widths[place]) < 0.1 or (box.height == 17 and widths[place] < 17)
    assert [box.rows for box in picture.boxes] == [800, 200, 700, 100, 200]
    by_title = {line.title: line.width for line in picture.lines}
    assert abs(by_title["a → A: 600 rows"] / by_title["a → Rejected: bad: 200 rows"] - 3) < 0.01


def test_one_row_among_millions_is_still_to_be_seen():
    picture = flow_picture([flow("a", migrated_A=50_000_000, dropped_odd=1)])
    assert min(line.width for line in picture.lines) >= 1
    assert picture.height < 1_000


def test_tables_without_rows_are_left_out_and_no_rows_at_all_is_no_error():
    assert flow_picture([flow("a")]).boxes == ()
    assert lineage_picture([]).boxes == ()


def test_long_names_are_cut():
    assert shortened("name", 100) == "name"
    assert shortened("a" * 100, 67) == "a" * 9 + "…"
