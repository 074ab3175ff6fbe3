"""Tests of CRM."""
