"""Shapes of the stack's HTTP APIs."""
