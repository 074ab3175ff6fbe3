"""How long tests wait for what is to come. Nothing is measured by it: it ends what hangs.

What takes a second on a quiet machine takes minutes on one that runs other tests, and their servers, beside it.
"""

PATIENCE = 600
"""In seconds; less than a test may take (`timeout` in pyproject.toml)."""
