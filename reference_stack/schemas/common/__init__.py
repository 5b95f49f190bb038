"""Shapes that several services share."""
