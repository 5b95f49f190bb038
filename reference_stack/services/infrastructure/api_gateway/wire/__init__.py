"""Connections to the models' servers, and what they need of the event loop."""
