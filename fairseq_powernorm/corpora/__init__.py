"""Corpora: where the text comes from and how it is prepared."""
