"""The former place of :mod:`fairseq_powernorm.transformer.commands`: ``python -m fairseq_powernorm.command_line train``
works for one more release."""

from .transformer.commands import PROGRAMS, generate, interactive, main, train, validate

__all__ = ["PROGRAMS", "generate", "interactive", "main", "train", "validate"]

if __name__ == "__main__":
    main()
