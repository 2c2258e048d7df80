"""The demo's corpus: German sentences about times, dates and prices with their English, all generated."""
