"""How many PHP-serialised address lists a second `php_strings` decodes, in memory and streamed.

python benchmarks/php_values.py [ROWS]
"""

import sys
import time

import polars as pl

from dtx_assets.machinery.transforms.php import php_strings


def address_lists(rows: int, distinct: int) -> pl.Series:
    """`rows` values, `distinct` of them different, spread evenly and in no order that helps."""
    payloads = []
    for number in range(distinct):
        addresses = [f"person{number}.{place}@example-{number % 97}.com" for place in range(1 + number % 3)]
        elements = "".join(f'i:{place};s:{len(address)}:"{address}";' for place, address in enumerate(addresses))
        payloads.append(f"a:{len(addresses)}:{{{elements}}}")
    picked = (pl.int_range(rows, eager=True) * 7919) % distinct
    return pl.Series("webhook", payloads).gather(picked)


def main(rows: int) -> None:
    for percent in (1, 100):
        frame = address_lists(rows, max(1, rows * percent // 100)).to_frame().lazy()
        query = frame.select(php_strings(pl.col("webhook")).struct.field("strings").list.len().sum())
        for engine in ("in-memory", "streaming"):
            started = time.perf_counter()
            leaves = query.collect(engine=engine).item()
            seconds = time.perf_counter() - started
            print(f"{percent:>3} % distinct, {engine:<9}: {rows / seconds:>12,.0f} values/s ({leaves:,} leaves)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
