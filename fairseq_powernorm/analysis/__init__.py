"""Offline looks at what other commands wrote: figures from tables and recordings. Matplotlib stays in here."""
