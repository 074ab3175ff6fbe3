"""Tests of the migration of staff trading requests."""
