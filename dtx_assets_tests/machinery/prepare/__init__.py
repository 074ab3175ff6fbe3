"""Tests of `machinery.prepare`."""
