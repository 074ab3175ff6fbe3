"""What every migration is built with. It knows Dagster, Polars and PostgreSQL, and no table of any system."""
