"""Declarations: legacy tables and targets. They import nothing."""
