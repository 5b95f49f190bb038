"""From metrics to a verdict that says how sure it is."""
