"""The help of fairseq-train with the flags of a model in it."""

from fairseq import options


def print_help(arguments: list[str]) -> None:
    """Prints it, and ends the process. fairseq's own ``--help`` ends the process before it knows of any model.

    Args:
        arguments: of fairseq-train, ``--arch`` among them and ``--help`` not.
    """
    calls = []

    def modify(parser) -> None:
        calls.append(parser)
        if len(calls) == 2:  # the second time comes when all flags are there
            parser.print_help()
            parser.exit()

    options.parse_args_and_arch(options.get_training_parser(), arguments, modify_parser=modify)
