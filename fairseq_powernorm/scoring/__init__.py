"""From translations to numbers: BLEU and chrF with their signatures, significance, the table of results.

``protocols`` says what is done to a text before it is scored; ``bleu`` is the only file that calls sacreBLEU; ``runs``
reads the folders of finished runs, ``rows`` and ``markdown`` make the table of them, ``table`` is its command and
``outputs`` what it writes.
"""
