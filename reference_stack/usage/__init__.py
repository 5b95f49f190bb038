"""What was used, by whom and of what: the command `hxp-stack usage`."""
