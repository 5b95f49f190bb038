"""The wire of every external service that a component test replaces."""
