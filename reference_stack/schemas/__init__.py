"""Shapes of everything that crosses a boundary of the stack."""
