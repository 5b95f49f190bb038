"""Health of all twelve services, in one place."""
