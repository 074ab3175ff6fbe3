"""The cutover page: one self-contained HTML file that says whether to cut over, and what stands in the way.

`figures` asks the bookkeeping in the target database, `history` asks Dagster. A module a section says what they mean
(`readiness`, `flow`, `lineage`, `decisions`, `book`, `rejected`), `gather` puts the sections together, `pictures` lays
the pictures out, `render` makes the page. Nothing here writes to the database.
"""

from dtx_assets.machinery.report.gather import Report, gather
from dtx_assets.machinery.report.render import render, write_page

__all__ = ["Report", "gather", "render", "write_page"]
