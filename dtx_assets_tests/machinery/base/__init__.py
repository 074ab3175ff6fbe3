"""Tests of `machinery.base`."""
