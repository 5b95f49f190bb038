"""Keys of the gateway: who comes in, how much each may ask for, and how keys are made, changed and ended."""
