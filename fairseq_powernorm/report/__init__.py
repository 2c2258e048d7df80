"""One HTML file on the runs of a recipe: scores, curves, translations side by side, settings, how it was made."""
