"""The highest rate that a target can be trusted with: searched, certified at both ends, and drawn."""
