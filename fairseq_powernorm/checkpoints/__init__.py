"""Reading, choosing and averaging checkpoints."""
