"""Which thresholds to try next, and which to go on with. It is asked and told; it never calls anybody."""
