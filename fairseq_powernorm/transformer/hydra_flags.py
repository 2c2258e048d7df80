"""The flags of a model that ``fairseq-hydra-train`` builds: ``+model._name=powernorm_tiny +model.norm_type=power``.

fairseq hands on what the command line gives, unparsed and without defaults, in a group of its own; on fairseq-train's
command line all flags stand together, and the norms' defaults look at some of the others (the learning rate's warm-up).
"""

import argparse
from collections.abc import Sequence
from typing import Any, cast

from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig, OmegaConf

OTHER_GROUPS = ("distributed_training", "optimization", "checkpoint", "lr_scheduler")


def parsed(parser: argparse.ArgumentParser, given: dict[str, Any]) -> dict[str, Any]:
    """What is given, as the parser would have it.

    Raises:
        ValueError: a flag does not take a value.
    """
    values = dict(given)
    for action in parser._actions:
        value = given.get(action.dest)
        if value is None or isinstance(value, bool):
            continue
        try:
            values[action.dest] = parser._get_value(action, str(value))
            parser._check_value(action, values[action.dest])
        except argparse.ArgumentError as error:
            raise ValueError(str(error).removeprefix("argument ")) from None
    return values


def plain(cfg: Any, **options: Any) -> dict[str, Any]:
    """A group of the configuration as a dictionary."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, **options))


def as_namespace(args: Any) -> argparse.Namespace:
    """The flags that a model is built by: fairseq-train's as they are, or the group of fairseq-hydra-train."""
    return argparse.Namespace(**plain(args)) if OmegaConf.is_config(args) else args


def as_command_line(
    model: type[BaseFairseqModel], cfg: DictConfig, others: Sequence[str] = OTHER_GROUPS
) -> argparse.Namespace:
    """The flags of a model as fairseq-train has them.

    Args:
        model: says which flags there are.
        cfg: the group of the model, within the whole configuration.
        others: the groups whose flags its defaults look at.

    Raises:
        ValueError: a flag does not take a value.
    """
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    model.add_args(parser)
    flags: dict[str, Any] = {}
    whole = cast(DictConfig, cfg._get_root())
    for group in others if whole is not cfg else ():
        flags.update(plain(whole.get(group) or OmegaConf.create({}), enum_to_str=True))
    flags.pop("_name", None)
    flags.update(vars(parser.parse_args([])))
    flags.update(parsed(parser, plain(cfg)))
    return argparse.Namespace(**flags)
