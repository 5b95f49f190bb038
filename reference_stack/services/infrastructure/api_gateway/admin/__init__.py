"""The admin API: a door of its own, closed unless the settings give it a token."""
