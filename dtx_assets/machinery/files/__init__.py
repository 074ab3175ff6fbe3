"""Files on their way from a directory tree to an object store: found safely, hashed once, sent and verified.

Knows no Dagster and no table: what a file is called and whose it is says the system.
"""
