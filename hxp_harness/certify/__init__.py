"""Proof that the instrument itself can be trusted at a load."""
