"""Small models, built by fairseq's own parser from a command line."""

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.language_modeling import LanguageModelingTask
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)

SMALL = [
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2"),
    *("--max-update", "20"),  # which schedules of norms are shares of
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


TRAINER = [
    *("--cpu", "--optimizer", "adam", "--lr", "1e-3", "--max-tokens", "999", "--dropout", "0"),
    *("--attention-dropout", "0", "--activation-dropout", "0"),
    *("--criterion", "label_smoothed_cross_entropy", "--decoder-norm-type", "pn-v"),
]


def build_trainer(*arguments):
    """fairseq's trainer of a small model."""
    args, words = parse(*TRAINER, *arguments), dictionary()
    task = TranslationTask(args, words, words)
    torch.manual_seed(1)
    model = task.build_model(args)
    trainer = Trainer(convert_namespace_to_omegaconf(args), task, model, task.build_criterion(args))
    trainer.reset_dummy_batch(batch(99))
    return trainer


def batch(seed, lengths=(5, 3, 4)):
    """A batch as fairseq's trainer takes it."""
    source, lengths, target = sample(list(lengths), seed=seed)
    words = dictionary()
    following = torch.cat([target[:, 1:], torch.full((target.size(0), 1), words.pad())], dim=1)
    return {
        "id": torch.arange(len(lengths)),
        "nsentences": len(lengths),
        "ntokens": int(following.ne(words.pad()).sum()),
        "net_input": {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": target},
        "target": following,
    }


@pytest.fixture
def trainers():
    """The helpers around fairseq's trainer."""

    class Trainers:
        pass

    for name, helper in (("build", build_trainer), ("batch", batch), ("dictionary", dictionary)):
        setattr(Trainers, name, staticmethod(helper))
    return Trainers


SMALL_LANGUAGE_MODEL = [
    *("--task", "language_modeling", "--tokens-per-sample", "8", "--cpu"),
    *("--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"),
    *("--decoder-embed-dim", "16", "--decoder-input-dim", "16", "--decoder-output-dim", "16"),
    *("--decoder-ffn-embed-dim", "24", "--decoder-layers", "2", "--criterion", "cross_entropy"),
]


def parse_language_model(arch, *arguments):
    parser = options.get_training_parser()
    return options.parse_args_and_arch(parser, ["data", "--arch", arch, *SMALL_LANGUAGE_MODEL, *arguments])


def build_language_model(arch, *arguments, seed=1):
    args = parse_language_model(arch, *arguments)
    torch.manual_seed(seed)
    return LanguageModelingTask(args, dictionary()).build_model(args)


def segments(rows=5, length=8, seed=0):
    """Random tokens (rows, length), none of them a control symbol."""
    return torch.randint(4, len(dictionary()), (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def language_models():
    """The helpers for language models."""

    class LanguageModels:
        pass

    for name, helper in (("parse", parse_language_model), ("build", build_language_model), ("segments", segments)):
        setattr(LanguageModels, name, staticmethod(helper))
    return LanguageModels
