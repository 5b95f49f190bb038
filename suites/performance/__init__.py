"""Profiles as tests."""
