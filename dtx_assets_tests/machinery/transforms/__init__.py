"""Tests of `machinery.transforms`."""
