"""Sends requests when they are due, and writes down when what came back."""
