"""In which order rows that refer to each other can be inserted, and which of them only together."""

import polars as pl


def groups_in_order(edges: pl.DataFrame) -> pl.DataFrame:
    """`node` and its `group`: each after the groups that it refers to; nodes that need each other are in one.

    `edges`: `node`, `refers_to`. This goes over the nodes one by one: it is for when a target refused some of them.
    """
    links = edges.filter(pl.col("node") != pl.col("refers_to")).unique()
    grouped = links.group_by("node").agg("refers_to")
    referred: dict[int, list[int]] = dict(grouped.iter_rows())
    group = _groups(pl.concat([links.get_column(name).rename("node") for name in links.columns]).unique(), referred)
    return pl.DataFrame(
        {"node": list(group), "group": list(group.values())}, schema={"node": pl.Int64, "group": pl.Int64}
    )


def _groups(nodes: pl.Series, referred: dict[int, list[int]]) -> dict[int, int]:
    """Tarjan's strongly connected components, without recursion. They are complete in the order that is wanted."""
    found: dict[int, int] = {}
    group: dict[int, int] = {}
    lowest: dict[int, int] = {}
    path: list[int] = []
    for start in nodes.sort().to_list():
        if start in found:
            continue
        found[start] = lowest[start] = len(found)
        path.append(start)
        todo = [(start, iter(referred.get(start, ())))]
        while todo:
            node, others = todo[-1]
            for other in others:
                if other not in found:
                    found[other] = lowest[other] = len(found)
                    path.append(other)
                    todo.append((other, iter(referred.get(other, ()))))
                    break
                if other not in group:
                    lowest[node] = min(lowest[node], found[other])
            else:
                todo.pop()
                if todo:
                    above = todo[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == found[node]:
                    number = len(group)
                    while node not in group:
                        group[path.pop()] = number
    return group
