"""What a change of the loss scale would do to PowerNorm's gradient if ν were not kept for an unscaled loss.

    python benchmarks/loss_scale.py --checkpoint runs/multi30k_de_en/power/seed1/checkpoints/checkpoint_last.pt

Under ``--fp16`` the scale falls to a half after an overflow and doubles after a while without one. A ν in units of the
scaled loss is then twice or half of what it should be until it has followed. Here a trained model gets one batch, and
for each norm: |ΔdX|/|dX|, the norms of the difference between the gradients with ν and with twice or half of it.
"""

import argparse
import sys
from pathlib import Path

from torch import Tensor, nn

from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.functional.masking import to_rows, zero_padding
from fairseq_powernorm.norms.power_norm import PowerNorm
from fairseq_powernorm.transformer.recalibrate import load_model, training_batches


class Watched:
    """What passes through a norm: x, the mask and the gradient of the output."""

    def __init__(self, norm: PowerNorm):
        self.norm, self.rows, self.padding = norm, None, None
        self.changes: dict[float, float] = {}
        norm.register_forward_hook(self.keep)

    def keep(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keeps x and the mask that was handed in, and waits for the gradient."""
        mask = inputs[1] if len(inputs) > 1 else (norm._handed_masks or [None])[-1]
        self.rows, self.padding = to_rows(inputs[0].detach(), mask)
        self.root = (norm.running_square_mean + norm.eps).sqrt().clone()
        output.register_hook(self.compare)

    def compare(self, grad: Tensor) -> None:
        """|ΔdX|/|dX| for both factors; dX = (γ dY − ν X̂)/√(ψ² + ε)."""
        normalized = zero_padding(self.rows, self.padding) / self.root
        scaled = zero_padding(grad.reshape(normalized.shape), self.padding) * self.norm.weight
        projected = self.norm.gradient_projection * normalized
        for factor in (0.5, 2.0):
            difference = (factor - 1) * projected / self.root
            self.changes[factor] = float(difference.norm() / ((scaled - projected) / self.root).norm())


def measure(options: argparse.Namespace) -> None:
    """Prints the changes of every power norm of the model."""
    model, task, cfg = load_model(options.checkpoint, options.data)
    norms = {name: Watched(module) for name, module in model.named_modules() if isinstance(module, PowerNorm)}
    if not norms:
        raise ValueError(f"{options.checkpoint}: no norm is power")
    criterion = task.build_criterion(cfg.criterion)
    model.train()
    batches, _ = training_batches(model, task, cfg, options.batches, options.max_tokens, seed=1)
    for batch in batches:  # ν is not averaged with the weights; a few batches bring it to where it is in training
        loss, _, _ = criterion(model, batch)  # a sum over tokens: fairseq divides gradients, not losses
        loss.backward()
    sys.stdout.write(f"{'norm':50} {'half':>8} {'twice':>8}\n")
    for name, watched in norms.items():
        sys.stdout.write(f"{name:50} {watched.changes[0.5]:8.2%} {watched.changes[2.0]:8.2%}\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", help="fairseq's binary data (default: the folder that the checkpoint names)")
    parser.add_argument("--batches", type=int, default=20, help="the last one is measured (default: 20)")
    parser.add_argument("--max-tokens", type=int, default=4096, help="(default: 4096)")
    options = parser.parse_args()
    run_command_line(lambda: measure(options))


if __name__ == "__main__":
    main()
