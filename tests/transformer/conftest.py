"""Small models, built by fairseq's own parser from a command line."""

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.tasks.translation import TranslationTask

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)

SMALL = [
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2"),
]


def parse(*arguments, arch="powernorm_tiny"):
    parser = options.get_training_parser()
    return options.parse_args_and_arch(parser, ["data", "--arch", arch, *SMALL, *arguments])


def dictionary():
    words = Dictionary()
    for word in "abcdefghijklmnopqrstuvwxyz":
        words.add_symbol(word)
    return words


def build(*arguments, arch="powernorm_tiny"):
    words = dictionary()
    args = parse(*arguments, arch=arch)
    torch.manual_seed(1)
    return TranslationTask(args, words, words).build_model(args)


def sample(lengths, seed=0):
    """A batch of source and shifted target sentences as fairseq collates them: source padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    words = dictionary()
    longest = max(lengths)
    source = torch.full((len(lengths), longest), words.pad())
    target = torch.full((len(lengths), longest + 1), words.pad())
    for row, length in enumerate(lengths):
        tokens = torch.randint(4, len(words), (length,), generator=generator)
        source[row, longest - length :] = tokens
        target[row, 0] = words.eos()
        target[row, 1 : length + 1] = torch.randint(4, len(words), (length,), generator=generator)
    return source, torch.tensor(lengths), target


def log_probabilities(model, source, lengths, target):
    """Log probabilities of every token that is not padding, (N, V)."""
    output = model(source, lengths, target)
    return model.get_normalized_probs(output, log_probs=True)[target.ne(dictionary().pad())]


@pytest.fixture
def models():
    """The helpers of this file as one object, since test modules cannot import a conftest."""

    class Models:
        pass

    for helper in (parse, dictionary, build, sample, log_probabilities):
        setattr(Models, helper.__name__, staticmethod(helper))
    return Models
