"""Pure arithmetic: what is sent when, when to ask for verification, whether to draft ahead, what it costs."""
