"""Tests of `machinery.dagster`."""
