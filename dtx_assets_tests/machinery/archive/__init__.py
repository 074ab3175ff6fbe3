"""Tests of `machinery.archive`."""
