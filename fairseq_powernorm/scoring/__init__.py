"""From translations to numbers: BLEU and chrF with their signatures, significance, the table of results.

``bleu`` is the only file that calls sacreBLEU; ``table`` reads the folders of finished runs.
"""
