"""Pure functions from legacy text to values, over Polars expressions: those of every system register on import."""

from dtx_assets.machinery.transforms import (
    binary,
    bson_values,
    codes,
    json_values,
    keys,
    listed,
    numbers,
    php_json,
    times,
)

__all__ = ["binary", "bson_values", "codes", "json_values", "keys", "listed", "numbers", "php_json", "times"]
