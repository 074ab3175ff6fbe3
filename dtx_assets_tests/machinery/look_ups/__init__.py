"""Tests of `machinery.look_ups`."""
