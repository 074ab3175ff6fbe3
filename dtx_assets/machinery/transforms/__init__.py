"""Pure functions from legacy text to values, over Polars expressions."""
