"""Checks that need only a URL and keys."""
