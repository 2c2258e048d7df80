"""Recalibrating a checkpoint: the running statistics of its norms, estimated anew on batches of training data.

The running statistics of an averaged model are averages as well, those of no model that ever ran. Here the averaged
weights run, and each norm gathers statistics (:func:`~fairseq_powernorm.norms.recalibration.gather_statistics`).

They run as in evaluation, without dropout, and training's own running statistics are taken with it: dropout p raises
the mean square of what it is applied to by 1/(1 − p), so new/old falls below 1 even where the weights are those of one
checkpoint (for BatchNorm: Li et al. 2019, "Understanding the disharmony between dropout and batch normalization").
"""

import argparse
import contextlib
import copy
import itertools
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fairseq import checkpoint_utils, tasks, utils
from torch import Tensor, nn
from tqdm import tqdm

from ..checkpoints.fold import folded_sites
from ..checkpoints.io import Checkpoint, load_checkpoint, save_checkpoint
from ..files import refuse_to_overwrite, run_command_line
from ..norms.distributed import number_of_ranks, sum_over_ranks
from ..norms.recalibration import gather_statistics, norms_with_statistics
from .statistics_changes import log_changes

logger = logging.getLogger(__name__)


def choose_device(cpu: bool) -> torch.device:
    """The CUDA device that torchrun means for this process, or the first one; the CPU if asked for or without CUDA."""
    if cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def rank_and_ranks() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) without a process group."""
    ranks = number_of_ranks()
    return dist.get_rank() if ranks > 1 else 0, ranks


def check_dictionary(path: Path, data: str, model: dict[str, Tensor], task) -> None:
    """Raises ``ValueError`` if a dictionary of ``data`` has another size than the embedding that it is for."""
    for stack, dictionary in (("encoder", task.source_dictionary), ("decoder", task.target_dictionary)):
        embedding = model.get(f"{stack}.embed_tokens.weight")
        if embedding is not None and embedding.size(0) != len(dictionary):
            raise ValueError(
                f"{data}: the {stack}'s dictionary has {len(dictionary)} types, the model of {path} was trained with "
                f"{embedding.size(0)}; is it the data that the model was trained on?"
            )


def setup_task(path: Path, cfg, data: str):
    """The checkpoint's task with its dictionaries.

    Raises:
        ValueError: no such data folder, or no dictionary in it.
    """
    folders = [Path(folder) for folder in utils.split_paths(data)]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such data folder; name the one that {path} was trained on with --data")
    for language in (cfg.task.get("source_lang"), cfg.task.get("target_lang")):
        translation = "source_lang" in cfg.task
        if not any(folders[0].glob(f"dict.{language or '*'}.txt" if translation else "dict.txt")):
            name = f"dict.{language or 'LANGUAGE'}.txt" if translation else "dict.txt"
            raise ValueError(f"{folders[0]} holds no {name}; is it the output of fairseq-preprocess?")
    return tasks.setup_task(cfg.task, from_checkpoint=True)


def check_configuration(path: Path, state: Checkpoint) -> None:
    """Raises ``ValueError`` if a checkpoint does not say what task and model it is of, as fairseq-train's do."""
    cfg = state.get("cfg") or {}
    described = state.get("args") or (cfg.get("task") and cfg.get("model"))
    if not (described and state.get("optimizer_history") and state.get("extra_state")):
        raise ValueError(f"{path}: holds no configuration of a task and a model, so the model cannot be built")


def load_model(path: Path, data: str | Path | None) -> tuple[nn.Module, Any, Any]:
    """Builds a checkpoint's model and task with fairseq.

    Args:
        path: a checkpoint that :func:`check_configuration` has passed.
        data: fairseq's binary data; None takes the folder that the checkpoint names.

    Returns:
        The model, in float32 and evaluation mode, its task and its configuration.

    Raises:
        ValueError: the data do not fit the checkpoint.
    """
    # fairseq's own reading changes what it reads, so it gets a copy of its own.
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path), {"data": str(data)} if data is not None else None)
    cfg = state["cfg"]
    task = setup_task(path, cfg, cfg.task.data)
    check_dictionary(path, cfg.task.data, state["model"], task)
    (model,), cfg, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)], task=task, state=state)
    return model.float().eval(), task, cfg


def training_batches(model: Any, task, cfg, batches: int, max_tokens: int, seed: int) -> tuple[Iterator, int]:
    """The first batches of fairseq's shuffled training data, as its trainer makes them in the first epoch.

    Args:
        model: says how long a sentence may be.
        task: loads the data.
        cfg: fairseq's configuration.
        batches: over all ranks, K ≥ 1; rank r of R gets batches r, r + R, r + 2R, …
        max_tokens: per batch, padding included; longer sentences are left out.
        seed: of the order.

    Returns:
        An iterator over this rank's batches, and the number of batches of all ranks: K, or all that there are.

    Raises:
        ValueError: no batch at all.
        FileNotFoundError: no training data in the folder.
    """
    subset = cfg.dataset.train_subset
    rank, ranks = rank_and_ranks()
    task.load_dataset(subset, epoch=1, combine=True)
    epoch = task.get_batch_iterator(
        dataset=task.dataset(subset),
        max_tokens=max_tokens,
        max_positions=utils.resolve_max_positions(task.max_positions(), model.max_positions(), max_tokens),
        ignore_invalid_inputs=True,
        required_batch_size_multiple=cfg.dataset.required_batch_size_multiple,
        seed=seed,
        num_shards=ranks,
        shard_id=rank,
    )
    found = len(epoch.frozen_batches)
    if not found:
        raise ValueError(f"{cfg.task.data}: no batch of the subset {subset!r} within {max_tokens} tokens")
    if found < batches:
        logger.warning("%d batches were asked for; %s has %d, all are used", batches, cfg.task.data, found)
    used = min(batches, found)
    # fairseq fills short shards up with empty batches; these are not counted as anybody's.
    return itertools.islice(epoch.next_epoch_itr(shuffle=True), len(range(rank, used, ranks))), used


def run_batches(model: nn.Module, samples: Iterator, total: int, device: torch.device) -> int:
    """Runs batches forward, without grad, with a progress bar on rank 0.

    Returns:
        The real tokens of all ranks' batches, source and target.
    """
    rank, ranks = rank_and_ranks()
    tokens = torch.zeros((), dtype=torch.float64, device=device)
    bar = {"total": len(range(rank, total, ranks)), "desc": "gathering", "unit": " batches"}
    for sample in tqdm(samples, **bar, disable=True if rank else None):
        sample = utils.apply_to_sample(lambda tensor: tensor.to(device), sample)
        with torch.no_grad():
            model(**sample["net_input"])
        tokens += sample["ntokens"]
        if hasattr(model, "encoder"):  # a language model's source and target are the same tokens
            tokens += sample["net_input"]["src_lengths"].sum()
    return int(sum_over_ranks([tokens])[0])


def recalibrate_checkpoint(
    checkpoint_path: str | Path,
    data: str | Path | None = None,
    batches: int = 100,
    max_tokens: int = 4096,
    seed: int = 1,
    cpu: bool = False,
) -> Checkpoint:
    """Estimates the running statistics of a checkpoint's norms anew on batches of its training data.

    Weights, ν and counters stay as they are; dropout is off. With an initialised process group every rank has to call
    this; each runs its share of the batches, and all return the same as one process would.

    Args:
        checkpoint_path: a checkpoint of fairseq-train, or an average of some.
        data: fairseq's binary data; None takes the folder that the checkpoint names.
        batches: K ≥ 1, of all ranks together; if the training data have fewer, all of them are used.
        max_tokens: per batch, padding included, as fairseq's ``--max-tokens``.
        seed: of fairseq's order of the training data.
        cpu: run on the CPU, even if there is a CUDA device.

    Returns:
        The checkpoint with new running statistics and, in ``extra_state``, what they were estimated on as
        ``recalibrated_on`` (``batches``, ``tokens``: source and target, ``max_tokens``, ``seed``, ``data``);
        everything else is as before. A model without running statistics comes back as it is, since whoever
        recalibrates all runs of a comparison has LayerNorm's among them.

    Raises:
        ValueError: a value outside its range, a bad or a folded checkpoint, data that do not fit it, or statistics that
            are not finite.
        FileNotFoundError: no such checkpoint, or no training data in the folder.
        IsADirectoryError: the checkpoint is a folder.
    """
    for name, value in (("batches", batches), ("max_tokens", max_tokens)):
        if value < 1:
            raise ValueError(f"expected {name} >= 1, got {value}")
    path, device = Path(checkpoint_path), choose_device(cpu)
    state = load_checkpoint(path)
    if folded := folded_sites(state):
        raise ValueError(
            f"{path} is folded: it has no running statistics left at {', '.join(folded)}; recalibrate the checkpoint "
            "that it was folded from"
        )
    check_configuration(path, state)
    model, task, cfg = load_model(path, data)
    norms = norms_with_statistics(model)
    if not norms:
        logger.info("%s has no norm with running statistics: nothing to recalibrate", path)
        return state
    model.to(device)
    samples, used = training_batches(model, task, cfg, batches, max_tokens, seed)
    with gather_statistics(model):
        tokens = run_batches(model, samples, used, device)
    logger.info("gathered over %d batches, %d tokens (source and target)", used, tokens)

    recalibrated = copy.copy(state["model"])
    old, new = {}, {}
    for site, norm in norms.items():
        old[site] = {name: state["model"][f"{site}.{name}"] for name in norm.running_statistics}
        new[site] = {name: getattr(norm, name).cpu().to(value.dtype) for name, value in old[site].items()}
        recalibrated.update({f"{site}.{name}": value for name, value in new[site].items()})
    log_changes(old, new)
    origin = {"batches": used, "tokens": tokens, "max_tokens": max_tokens, "seed": seed, "data": str(cfg.task.data)}
    extra_state = {**state["extra_state"], "recalibrated_on": origin}
    return {**state, "model": recalibrated, "extra_state": extra_state}


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within the block the process group of torchrun, if it started this process (``WORLD_SIZE`` is above 1)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where nccl's barrier runs
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()  # nobody takes the group down while rank 0 still writes
    finally:
        dist.destroy_process_group()


def main() -> None:
    """The command line of :func:`recalibrate_checkpoint`."""
    parser = argparse.ArgumentParser(prog="powernorm-recalibrate", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="the checkpoint, usually an average")
    parser.add_argument("--data", type=Path, help="fairseq's binary data; default: the folder that it was trained on")
    parser.add_argument("--batches", type=int, default=100, metavar="K", help="training batches, of all ranks together")
    parser.add_argument("--max-tokens", type=int, default=4096, metavar="N", help="size of a batch, padding included")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the training data")
    parser.add_argument("--output", type=Path, required=True, help="the recalibrated checkpoint")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    parser.add_argument("--cpu", action="store_true", help="leave CUDA alone; without CUDA it is the CPU anyway")
    arguments = parser.parse_args()
    refuse_to_overwrite(arguments.output, arguments.force)
    with process_group(choose_device(arguments.cpu)):
        rank, _ = rank_and_ranks()
        # fairseq configures logging on import; of its own messages only warnings matter here.
        logging.basicConfig(level=logging.WARNING if rank else logging.INFO, format="%(message)s", force=True)
        logging.getLogger("fairseq").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.")  # torch's remarks on fairseq's calls
        chosen = (arguments.data, arguments.batches, arguments.max_tokens, arguments.seed, arguments.cpu)
        state = recalibrate_checkpoint(arguments.checkpoint, *chosen)
        if rank == 0:
            save_checkpoint(state, arguments.output, arguments.force)
            logger.info("wrote %s", arguments.output)


def command() -> None:
    """The console script ``powernorm-recalibrate``."""
    run_command_line(main)


if __name__ == "__main__":
    command()
