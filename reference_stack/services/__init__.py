"""The twelve services."""
