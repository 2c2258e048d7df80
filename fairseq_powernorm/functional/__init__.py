"""The norms as pure arithmetic on rows (N, C); ``reference`` is their definition."""
