"""Tests of PAD."""
