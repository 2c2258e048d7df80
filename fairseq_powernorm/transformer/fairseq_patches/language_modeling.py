"""What fairseq's task of language models gets wrong with a present numpy, or without a word."""

from collections.abc import Callable

import numpy as np

from ...flags.values import FlagError


def sentences_as_blocks(stock: Callable, sizes, break_mode, document_sep_len, block_size):
    """Blocks of one sentence each (``--sample-break-mode eos``, and all of ``fairseq-interactive``). fairseq counts
    them by a type that numpy 2 has not got."""
    if break_mode != "eos":
        return stock(sizes, break_mode, document_sep_len, block_size)
    sizes = np.asarray(sizes, dtype=np.int64)
    ends, numbers = np.cumsum(sizes), np.arange(len(sizes))
    slices = np.stack([ends - sizes, ends], axis=1)
    return sizes, np.stack([numbers, np.zeros_like(numbers), numbers], axis=1), slices


def eval_lm_dataloader(stock: Callable, task, dataset, *args, max_positions=None, context_window=0, **options):
    """Evaluation on segments that the model can take. fairseq leaves out all others, and is left with a perplexity of
    1 where these are all."""
    longest = int(dataset.sizes.max(initial=0)) + context_window
    if max_positions is not None and longest > max_positions:
        window = f" with the --context-window of {context_window}" if context_window else ""
        raise FlagError(
            f"--tokens-per-sample: a segment has {longest} tokens{window}, the model was built for {max_positions}"
        )
    return stock(task, dataset, *args, max_positions=max_positions, context_window=context_window, **options)
