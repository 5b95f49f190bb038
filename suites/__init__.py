"""Tests of a stack, any stack."""
