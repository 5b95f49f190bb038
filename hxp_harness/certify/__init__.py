"""Proof that the instrument itself can be trusted at a load."""

SCALE = 1.5  # of the contract's highest rate, at which the instrument is proved
