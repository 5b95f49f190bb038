"""The history of runs: read from their folders, kept by the stack where one runs, searched in plain words."""
