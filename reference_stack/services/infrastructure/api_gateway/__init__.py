"""The one door to all models: keys, routing, streaming."""
