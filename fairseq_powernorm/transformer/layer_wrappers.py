"""What fairseq puts around each layer of a stack."""

from fairseq.distributed import fsdp_wrap
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import nn


def wrap_layer(layer: nn.Module, cfg) -> nn.Module:
    """Applies ``--checkpoint-activations``, ``--offload-activations`` and FSDP to a built layer, as stock stacks do.

    Args:
        layer: an encoder or decoder layer.
        cfg: fairseq's TransformerConfig.
    """
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    # FSDP has to wrap a recomputed layer, however small it is.
    return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)
