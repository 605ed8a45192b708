"""Pure arithmetic: when to ask for verification."""
