"""The brain: what each side decides. Pure: events and ``now`` in, commands and a deadline out."""
