"""A small system with two tables, as an importable code location: what runs of several processes are tested with."""
