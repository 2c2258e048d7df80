"""The scale of activations and gradients in every layer before the first update, for each initialization.

    python benchmarks/initial_scales.py --layers 18 --output results/initial_scales

A Transformer of ``powernorm_tiny``'s sizes with as many layers in each stack as asked for, on a made-up batch, without
dropout; the loss is the mean of fairseq's label-smoothed cross-entropy over the tokens. Writes PREFIX.csv and
PREFIX.png.
"""

import argparse
import logging

import torch
from small_models import build, dictionary, flags, sample

from fairseq_powernorm.analysis.layer_scales import LayerScale, draw, measure_scales, to_rows
from fairseq_powernorm.analysis.outputs import check_outputs, write_outputs
from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.initialization.schemes import SCHEMES

PRE, POST = ["--norm-type", "layer"], ["--norm-type", "layer", "--norm-position", "post"]
NONE = ["--norm-type", "none", "--decoder-norm-type", "none"]
MODELS = {
    "fairseq, pre-norm": PRE,
    "fairseq, post-norm": POST,
    "fairseq, no norm": NONE,
    **{
        name: ["--init-scheme", name, *{"any": PRE, "post": POST, "none": NONE}[scheme.norms]]
        for name, scheme in SCHEMES.items()
        if name != "fairseq"
    },
}
NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
TYPES, TOKENS, LONGEST = 2000, 512, 32


def scales_of(layers: int, norms: list[str]) -> list[LayerScale]:
    """The scales of one model.

    Args:
        layers: of each stack.
        norms: flags of norms and initialization.
    """
    depth = ["--encoder-layers", str(layers), "--decoder-layers", str(layers)]
    words = dictionary(TYPES)
    args = flags("--arch", "powernorm_tiny", *depth, *NO_DROPOUT, *norms)
    task, model = build(args, words)
    criterion = task.build_criterion(args)
    torch.manual_seed(1)
    batch = sample(words, TOKENS, LONGEST, torch.device("cpu"))

    def loss() -> torch.Tensor:
        return criterion(model.train(), batch)[0] / batch["ntokens"]

    return measure_scales(model, loss)


def measure(options: argparse.Namespace) -> None:
    """Measures, and writes table and chart."""
    if options.layers < 1:
        raise ValueError(f"expected --layers >= 1, got {options.layers}")
    check_outputs(options.output, options.force, "csv", "png")
    logging.disable(logging.INFO)  # each model's description
    models = {name: scales_of(options.layers, norms) for name, norms in MODELS.items()}
    title = f"before the first update: {options.layers} + {options.layers} layers, 128 channels"
    write_outputs(options.output, to_rows(models), draw(models, title))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=18, metavar="N", help="of each stack (default: 18)")
    parser.add_argument("--output", required=True, metavar="PREFIX", help="writes PREFIX.csv and PREFIX.png")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args()
    run_command_line(lambda: measure(options))


if __name__ == "__main__":
    main()
