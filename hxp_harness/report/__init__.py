"""Views of a run's record."""
