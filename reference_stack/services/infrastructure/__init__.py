"""Gateway, monitoring, configuration and storage."""
