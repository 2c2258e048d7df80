"""What the checkpoint that a training starts from has as norms and initialization, against its command line.

fairseq builds the model by the command line and then fills it with the checkpoint's tensors. Norms with other settings
often have the same tensors, so a model could silently become another one: the default of ``--norm-group-scaling`` and
``--norm-warmup-updates``, for example, was 0 before it was ``auto``. So a training that goes on stops where its norms
differ, and fine-tuning takes the norm flags that its command line leaves open from the checkpoint.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from ..checkpoints.io import Checkpoint, load_checkpoint, model_flags
from ..checkpoints.resume import LAST_NAME
from ..flags.initialization import INIT_DEFAULTS, init_of
from ..flags.norms import DEFAULTS, OF_THE_TRAINING, is_language_model, stack_spec, stacks_of
from ..flags.own import OWN_FLAGS
from ..flags.values import AUTO, FlagError
from ..norms.registry import FOLDED, settings_of
from ..norms.spec import NormSpec

logger = logging.getLogger(__name__)

INHERITED = tuple(name for name in (*DEFAULTS, *INIT_DEFAULTS) if name not in OF_THE_TRAINING)


def inherited_by(args: argparse.Namespace) -> tuple[str, ...]:
    """The flags that a model takes from a checkpoint; a language model's ``--norm-type`` says what its stack has."""
    return tuple(name for name in INHERITED if not (name == "decoder_norm_type" and is_language_model(args)))


def flags_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The flags of a checkpoint's model, with what older versions did not store filled in; None if it is not one of
    this package's."""
    flags = model_flags(checkpoint)
    return {**DEFAULTS, **INIT_DEFAULTS, **flags} if "norm_type" in flags else None


def inherit_norm_flags(args: argparse.Namespace) -> None:
    """Gives the norm flags that a fine-tuning's command line leaves open, or at ``auto``, the checkpoint's values; so
    too the switches that it leaves off. A norm that is chosen for a stack is that of all its sites.

    Fine-tuning is ``--finetune-from-model FILE``, or ``--restore-file FILE --reset-optimizer``. A checkpoint of another
    package changes nothing.

    Args:
        args: the namespace of an architecture function, before defaults are filled in; changed in place.

    Raises:
        FlagError: the checkpoint cannot be read, or it is folded.
    """
    path = getattr(args, "finetune_from_model", None)
    if not path and getattr(args, "reset_optimizer", False) and getattr(args, "restore_file", LAST_NAME) != LAST_NAME:
        path = args.restore_file
    if not path or not Path(path).is_file():  # fairseq itself says that there is none
        return
    try:
        flags = flags_of(load_checkpoint(path, mmap=True))
    except (ValueError, OSError) as error:
        raise FlagError(str(error)) from None
    if flags is None:
        return
    of_stack = {"encoder": "norm_type", "decoder": "norm_type" if is_language_model(args) else "decoder_norm_type"}
    chosen = tuple(f"{stack}_norm_" for stack, flag in of_stack.items() if getattr(args, flag, None) is not None)
    inherited = [name for name in inherited_by(args) if not name.startswith(chosen)]
    if FOLDED in (flags[name] for name in inherited):
        raise FlagError(f"{path} is folded, for translating alone: fine-tune the checkpoint that it was made from")
    for name in inherited:
        given = getattr(args, name, None)
        word = OWN_FLAGS[name].setting.word if name in OWN_FLAGS else AUTO
        if given is None or given is False or given == word:
            setattr(args, name, flags[name])


def norms_of(flags: argparse.Namespace) -> dict[str, Any]:
    """All that decides what the norms of a model compute, by site: name and the settings that the norm takes; and its
    initialization."""
    norms: dict[str, Any] = {
        "position": flags.norm_position,
        "depth scaling": flags.norm_depth_scaling,
        "init": init_of(flags),
    }
    for stack in stacks_of(flags):
        for site, spec in vars(stack_spec(flags, stack)).items():
            if spec is not None and not (site == "output" and flags.norm_position == "post"):
                norms[f"{stack} {site}"] = _used_settings(spec)
    return norms


def _used_settings(spec: NormSpec) -> dict[str, Any]:
    taken = () if spec.name == FOLDED else settings_of(spec.name)
    settings = {name: value for name, value in spec.settings().items() if name in taken and name != "sync"}
    return {"name": spec.name, **settings}


def check_same_norms(args: argparse.Namespace, path: str, fine_tuning: bool) -> None:
    """Compares the norms of a training with those of the checkpoint that it starts from.

    Args:
        args: the flags of the training's model.
        path: the checkpoint.
        fine_tuning: whether the training begins with it rather than goes on; then a difference is a warning.

    Raises:
        ValueError: a training that goes on has other norms; the message names the flags to add.
    """
    flags = flags_of(load_checkpoint(path, mmap=True))
    if flags is None or norms_of(argparse.Namespace(**flags)) == norms_of(args):
        return
    differing = [name for name in inherited_by(args) if flags[name] != getattr(args, name, flags[name])]
    options = {name: f"--{name.replace('_', '-')}" for name in differing}
    given = {name: flags[name] for name in differing if flags[name] is not None and flags[name] is not False}
    words = " ".join(options[name] if value is True else f"{options[name]} {value}" for name, value in given.items())
    without = " or ".join(option for name, option in options.items() if name not in given)
    advice = " and ".join([*([f"add {words}"] if words else []), *([f"leave out {without}"] if without else [])])
    if fine_tuning:
        logger.warning("%s was trained with other norms (or initialization); to have them, %s", path, advice)
        return
    raise ValueError(
        f"{path} was trained with other norms (or initialization) than this command asks for: to go on, {advice}; for "
        "a new training, give another --save-dir"
    )
