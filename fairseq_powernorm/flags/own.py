"""The flags of settings that one norm alone has, made from what the norms declare.

A norm's class lists them with help and range (:class:`~.norms.declaration.Setting`); here each becomes a flag named
after norm and keyword.
"""

from typing import Any

from ..norms.registry import NORMS, flag_of, own_flags
from .values import AUTO, FlagError, reader

OWN_FLAGS = own_flags()


def add_own_flags(parser) -> None:
    """Declares the flags of the settings that one norm alone has, norm by norm."""
    for flag, own in OWN_FLAGS.items():
        setting, option = own.setting, f"--{flag.replace('_', '-')}"
        default = own.default
        if setting.share_of_training is not None:
            otherwise = "" if setting.otherwise is None else f", or {setting.otherwise} without it"
            default = f"auto, {setting.share_of_training:.0%} of --max-update{otherwise}".replace("%", "%%")
        elif setting.heads:
            default = "heads, as many as attention has"
        words = f"[{', '.join(own.norms)}] {setting.help}"
        if setting.kind is bool:
            parser.add_argument(option, action="store_true", help=words)
        elif setting.choices:
            parser.add_argument(option, choices=setting.choices, help=f"{words} (default: {default})")
        else:
            start = {} if setting.word is None else {"default": setting.word}
            metavar = "N" if setting.kind is int else "X"
            read = reader(setting.kind, setting.expected, setting.accepts, setting.word)
            parser.add_argument(option, type=read, metavar=metavar, help=f"{words} (default: {default})", **start)


def resolve_own_flags(args, chosen: set[str]) -> None:
    """Puts a number in the place of ``auto`` in the norms' own settings: a share of ``--max-update``, rounded.

    Args:
        args: changed in place.
        chosen: the norms of the model.

    Raises:
        FlagError: a norm that is chosen needs the length of the training.
    """
    for flag, own in OWN_FLAGS.items():
        if getattr(args, flag) != AUTO:
            continue
        length, setting = getattr(args, "max_update", None) or 0, own.setting
        if not chosen & set(own.norms):
            setattr(args, flag, own.default)
        elif length:
            assert setting.share_of_training is not None  # otherwise it takes no auto
            setattr(args, flag, round(setting.share_of_training * length))
        elif setting.otherwise is None:
            raise FlagError(f"--{flag.replace('_', '-')} auto is a share of --max-update, which is not given")
        else:
            setattr(args, flag, setting.otherwise)


def own_values(args, stack: str, name: str) -> dict[str, Any]:
    """The settings that the norm ``name`` alone has, by their keywords, for a stack with its number of heads."""
    if name not in NORMS:
        return {}
    flags = {keyword: flag_of(name, keyword) for keyword in NORMS[name].own_settings}
    values = {keyword: getattr(args, flag, OWN_FLAGS[flag].default) for keyword, flag in flags.items()}
    heads = getattr(args, f"{stack}_attention_heads")
    return {keyword: heads if value == "heads" else value for keyword, value in values.items()}
