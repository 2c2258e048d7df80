"""fairseq's own view of a run's data, for :func:`fairseq_powernorm.pipeline.inputs.ask_fairseq`: a process of its own.

Reads a question as JSON from stdin, prints the updates of an epoch, or ends with one line that says what is wrong.
"""

import json
import logging
import sys
from argparse import ArgumentParser

from fairseq import options, tasks, utils
from fairseq.data import iterators
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig

from .. import transformer  # noqa: F401 (registers the architectures)
from ..files import run_command_line


def parse(parser: ArgumentParser, arguments: list[str]) -> DictConfig:
    """fairseq's configuration of a command line; a flag that it does not take ends the process with one line."""
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))


def load(task, name: str, subset: str):
    """A subset of the task's data; raises ``ValueError`` if its sides differ in length."""
    try:
        task.load_dataset(subset, epoch=1, combine=False)
    except AssertionError as error:
        raise ValueError(f"{name}: source and target have different numbers of lines ({error})") from None
    return task.dataset(subset)


def check_lengths(name: str, dataset, positions: tuple[int, int], max_tokens: int | None) -> None:
    """Raises ``ValueError`` for the first sentence that is longer than the model's positions or a batch."""
    sides = ("source", dataset.src_sizes), ("target", dataset.tgt_sizes)
    for (side, sizes), most in zip(sides, positions, strict=True):
        limits = {f"--max-{side}-positions": most, "--max-tokens": max_tokens or most}
        flag = min(limits, key=limits.__getitem__)
        for number, size in enumerate(sizes.tolist() if sizes is not None else (), start=1):
            if size > limits[flag]:
                raise ValueError(
                    f"{name}, line {number} of the {side}: {size} subwords with the end of the sentence, {flag} is "
                    f"{limits[flag]}"
                )


def check_texts(cfg: DictConfig, texts: list[list[str]]) -> None:
    """Checks that a language model's segments are no longer than those it is trained on.

    Raises:
        ValueError: they are, or a text is not there; names the text.
    """
    positions = cfg.task.max_target_positions or cfg.task.tokens_per_sample
    for arguments in texts:
        evaluation = parse(options.get_eval_lm_parser(), arguments)
        name, window = evaluation.dataset.gen_subset, evaluation.eval_lm.context_window
        length = evaluation.task.tokens_per_sample
        if not window < length <= positions:
            raise ValueError(
                f"text {name}: segments of {length} tokens, {window} of them context, for a model of {positions}; the "
                "former may not be more than the latter, and need more than context"
            )
        tasks.setup_task(evaluation.task).load_dataset(name)


def updates_per_epoch(task, cfg: DictConfig, ranks: int) -> int:
    """The optimizer updates of an epoch, by the batches that fairseq's trainer would make."""
    task.load_dataset(cfg.dataset.train_subset, epoch=1, combine=True)
    epoch = task.get_batch_iterator(
        dataset=task.dataset(cfg.dataset.train_subset),
        max_tokens=cfg.dataset.max_tokens,
        max_sentences=cfg.dataset.batch_size,
        max_positions=utils.resolve_max_positions(task.max_positions(), cfg.dataset.max_tokens),
        ignore_invalid_inputs=True,
        required_batch_size_multiple=cfg.dataset.required_batch_size_multiple,
        seed=cfg.common.seed,
        num_shards=ranks,
        skip_remainder_batch=cfg.optimization.skip_remainder_batch,
        grouped_shuffling=cfg.dataset.grouped_shuffling,
    )
    batches = epoch.next_epoch_itr(shuffle=False)
    return len(
        iterators.GroupedIterator(batches, cfg.optimization.update_freq[-1], cfg.optimization.skip_remainder_batch)
    )


def answer(question: dict) -> int:
    """The optimizer updates of an epoch; raises ``ValueError`` for what could end a run later."""
    cfg = parse(options.get_training_parser(), question["train"])
    task = tasks.setup_task(cfg.task)
    language_model = "texts" in question
    if language_model:
        check_texts(cfg, question["texts"])
    if not cfg.dataset.disable_validation and not language_model:
        for subset in cfg.dataset.valid_subset.split(","):
            dataset = load(task, f"validation set {subset}", subset)
            if not cfg.dataset.skip_invalid_size_inputs_valid_test:
                check_lengths(f"validation set {subset}", dataset, task.max_positions(), cfg.dataset.max_tokens_valid)
    for name, test_set in question.get("test_sets", {}).items():
        generation = parse(options.get_generation_parser(), test_set["arguments"])
        dataset = load(task, f"test set {name}", generation.dataset.gen_subset)
        if len(dataset) != test_set["sentences"]:
            raise ValueError(
                f"test set {name}: {len(dataset)} sentences in {cfg.task.data}, {test_set['sentences']} lines of "
                "reference; prepare the data again"
            )
        positions = tasks.setup_task(generation.task).max_positions()
        positions = utils.resolve_max_positions(task.max_positions(), positions)
        check_lengths(f"test set {name}", dataset, positions, generation.dataset.max_tokens)
    return updates_per_epoch(task, cfg, question["ranks"])


def main() -> None:
    """Answers one question."""
    logging.disable(logging.WARNING)
    sys.stdout.write(f"{answer(json.load(sys.stdin))}\n")


if __name__ == "__main__":
    run_command_line(main)
