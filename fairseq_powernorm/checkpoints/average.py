"""Averaging checkpoints: weights in float64, every buffer by its declared policy.

The running statistics of an average are those of no model that ever ran: they are averaged too, which is close where
the checkpoints are neighbours, and can be estimated anew on training data.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..files import refuse_folder, refuse_to_overwrite, run_command_line
from ..norms.declaration import BufferPolicy
from ..norms.registry import NORMS
from .fold import folded_sites
from .io import Checkpoint, load_checkpoint, number_of_updates, save_checkpoint
from .select import select_in_folder

logger = logging.getLogger(__name__)

FAIRSEQ_BUFFER_POLICIES: dict[str, BufferPolicy] = {"version": "newest", "_float_tensor": "newest"}


def buffer_policies() -> dict[str, BufferPolicy]:
    """How each buffer, by the last part of its name, gets its value in an average."""
    policies = dict(FAIRSEQ_BUFFER_POLICIES)
    for norm in NORMS.values():
        policies.update(norm.buffer_policies)
    return policies


def policy_of(name: str, tensor: Tensor) -> BufferPolicy:
    """The policy of one entry of a state dict: its buffer's, or the mean for parameters.

    Raises:
        ValueError: an integer tensor that no policy is declared for: a mean of counters would be a guess.
    """
    declared = buffer_policies().get(name.rsplit(".", 1)[-1])
    if declared is None and not tensor.is_floating_point():
        raise ValueError(f"no averaging policy is declared for the integer buffer {name}")
    return declared or "mean"


def check_alike(reference: dict[str, Tensor], model: dict[str, Tensor], paths: tuple[Path, Path]) -> None:
    """Raises ``ValueError`` if two state dicts differ in keys or shapes; the message names a key and both files."""
    only = sorted(set(reference) ^ set(model))
    if only:
        raise ValueError(f"{paths[1]} and {paths[0]} are of different models: only one of them has {only[0]}")
    for name, tensor in model.items():
        if tensor.shape != reference[name].shape:
            raise ValueError(
                f"{paths[1]} and {paths[0]} are of different models: {name} is {tuple(tensor.shape)} "
                f"and {tuple(reference[name].shape)}"
            )


def check_folded_alike(reference: list[str], sites: list[str], paths: tuple[Path, Path]) -> None:
    """Raises ``ValueError`` if two checkpoints are not folded at the same sites (:func:`~.fold.folded_sites`)."""
    if reference == sites:
        return
    if reference and sites:
        raise ValueError(f"{paths[1]} and {paths[0]} are folded at different sites: average first, then fold")
    one, other = (paths[1], paths[0]) if sites else paths
    raise ValueError(f"{one} is folded and {other} is not: average first, then fold")


def average_checkpoints(paths: Sequence[str | Path]) -> Checkpoint:
    """Averages the models of several checkpoints of one run.

    Weights are summed in float64 and cast back to their own dtype. Running statistics, ν among them, are averaged in
    the same way; counters and fairseq's own buffers come from the newest checkpoint (the most optimizer updates, the
    later of the given ones in a tie). One checkpoint is held in memory at a time, beside the sum.

    Args:
        paths: one or more checkpoint files.

    Returns:
        The newest checkpoint without its optimizer state, with the averaged ``model`` and, in ``extra_state``, the
        names of the files as ``averaged_from``.

    Raises:
        ValueError: no paths, checkpoints of different models (a folded one and one that is not are two), weights that
            are not finite, or a bad file.
        FileNotFoundError, IsADirectoryError: no such file, or a folder.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("nothing to average: no checkpoint was given")
    for path in files:  # before the work
        refuse_folder(path)
    sums: dict[str, Tensor] = {}
    folded: list[str] = []
    newest: Checkpoint = {}
    for path in tqdm(files, desc="averaging", unit=" checkpoints", disable=None):
        state = load_checkpoint(path)
        if not newest or number_of_updates(state) >= number_of_updates(newest):
            newest = {key: value for key, value in state.items() if key != "last_optimizer_state"}
        if not sums:
            folded = folded_sites(state)
        else:
            check_folded_alike(folded, folded_sites(state), (files[0], path))
            check_alike(sums, state["model"], (files[0], path))
        for name, tensor in state["model"].items():
            if policy_of(name, tensor) == "newest":
                sums.setdefault(name, tensor)
                continue
            if not tensor.isfinite().all():
                raise ValueError(f"{path}: {name} holds values that are not finite")
            wide = tensor.to(torch.float64, copy=True)
            sums[name] = wide if name not in sums else sums[name].add_(wide)
    model = {
        name: tensor if policy_of(name, tensor) == "newest" else (sums[name] / len(files)).to(tensor.dtype)
        for name, tensor in newest["model"].items()
    }
    extra_state = {**(newest.get("extra_state") or {}), "averaged_from": [path.name for path in files]}
    return {**newest, "model": model, "extra_state": extra_state}


def main() -> None:
    """The command line of :func:`average_checkpoints`."""
    parser = argparse.ArgumentParser(prog="powernorm-average", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, nargs="*", help="checkpoint files; or choose them with --folder")
    parser.add_argument("--folder", type=Path, help="folder of checkpoints to choose from")
    parser.add_argument("--last", type=int, metavar="N", help="the last N of the folder")
    parser.add_argument("--by", choices=("epoch", "update"), help="what --last goes by (default: epoch)")
    parser.add_argument("--best", type=int, metavar="N", help="the best N of the folder (--keep-best-checkpoints)")
    direction = parser.add_mutually_exclusive_group()
    for name, better in (("maximize", "higher"), ("minimize", "lower")):
        direction.add_argument(
            f"--{name}",
            dest="maximize",
            action="store_const",
            const=name == "maximize",
            help=f"a {better} metric is better, where the checkpoints do not say it themselves (older fairseq's)",
        )
    parser.add_argument("--output", type=Path, required=True, help="the averaged checkpoint")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if (arguments.inputs is None) == (arguments.folder is None):
        parser.error("give either --inputs or --folder")
    for name in ("last", "by", "best", "maximize") if arguments.inputs is not None else ():
        if getattr(arguments, name) is not None:
            parser.error("--last, --by, --best, --maximize and --minimize choose from a --folder, not from --inputs")
    if arguments.by is not None and arguments.last is None:
        parser.error("--by says what --last goes by; give --last N")
    refuse_to_overwrite(arguments.output, arguments.force)
    paths = arguments.inputs
    if arguments.folder is not None:
        paths = select_in_folder(
            arguments.folder, arguments.last, arguments.by or "epoch", arguments.best, arguments.maximize
        )
    logger.info("averaging %s", ", ".join(str(path) for path in paths))
    save_checkpoint(average_checkpoints(paths), arguments.output, arguments.force)
    logger.info("wrote %s", arguments.output)


def command() -> None:
    """The console script ``powernorm-average``."""
    run_command_line(main)


if __name__ == "__main__":
    command()
