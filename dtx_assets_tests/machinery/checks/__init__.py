"""Tests of `machinery.checks`."""
