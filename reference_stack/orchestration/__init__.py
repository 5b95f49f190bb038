"""Starts, watches and stops the services."""
