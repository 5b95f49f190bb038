"""Who gets in, and what bad input does."""
