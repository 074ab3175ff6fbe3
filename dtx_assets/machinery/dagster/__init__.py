"""The Dagster wiring: assets, checks, jobs, resources, history. What they do lies in the packages below."""
