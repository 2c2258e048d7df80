"""fairseq's own reading of checkpoints with a look at their settings, for ``fairseq-generate --user-dir`` and hubs."""

import functools

from fairseq import checkpoint_utils
from omegaconf import DictConfig, OmegaConf

from .safe_globals import check_settings


def guard_loading() -> None:
    """Wraps ``fairseq.checkpoint_utils.load_checkpoint_to_cpu``, once a process; a second call does nothing.

    Reading a checkpoint whose settings hold code is then a ``ValueError`` for every command and for
    ``from_pretrained``, before fairseq builds the model.
    """
    stock = checkpoint_utils.load_checkpoint_to_cpu
    if getattr(stock, "looks_at_settings", False):
        return

    @functools.wraps(stock)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        state = stock(path, *args, **kwargs)
        cfg = state.get("cfg")
        plain = OmegaConf.to_container(cfg) if isinstance(cfg, DictConfig) else cfg
        check_settings(path, {**state, "cfg": plain})
        return state

    load_checkpoint_to_cpu.looks_at_settings = True
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
