"""Migration plans as Dagster asset graphs: one sub-package a system, and the machinery they share."""
