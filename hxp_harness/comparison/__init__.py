"""Whether one run, or one target, is better or worse than another: by how much, and how surely."""
