"""Tests of `machinery.postgres`."""
