"""A small generated corpus in fairseq's binary form, and fairseq's real commands in processes of their own; for tests
of many trainings a smaller one, and fairseq-train in this process."""

import copy
import functools
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fairseq_powernorm.corpora.demo.corpus import write_corpus
from fairseq_powernorm.corpora.sentencepiece_bpe import encode_corpus

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TRAIN = [
    *("--source-lang", "de", "--target-lang", "en", "--cpu", "--num-workers", "0", "--seed", "1"),
    *("--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "48", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "32", "--decoder-ffn-embed-dim", "48"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2", "--share-all-embeddings"),
    *("--dropout", "0.2", "--attention-dropout", "0.1", "--activation-dropout", "0.1"),
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "3e-3", "--lr-scheduler", "inverse_sqrt"),
    *("--warmup-updates", "20", "--warmup-init-lr", "1e-7", "--criterion", "label_smoothed_cross_entropy"),
    *("--label-smoothing", "0.1", "--max-tokens", "600", "--log-format", "json", "--log-interval", "1"),
]
GENERATE = ["--source-lang", "de", "--target-lang", "en", "--cpu", "--beam", "3", "--remove-bpe", "sentencepiece"]
GENERATE += ["--max-len-a", "1", "--max-len-b", "5", "--num-workers", "0", "--required-batch-size-multiple", "1"]


def run(command, cwd=ROOT, **options):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def logged(output, *names):
    """The values of each logged training update, as fairseq printed them."""
    return [
        tuple(re.search(rf'"{name}": "([^"]*)"', line)[1] for name in names)
        for line in output.splitlines()
        if "| train_inner |" in line
    ]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, run_python):
    """The folder with raw/, bpe/ and bin/, its name with a space in it."""
    folder = tmp_path_factory.mktemp("a corpus")
    # 920 pairs: 61 batches of 600 tokens and, for test_distributed_training.py, an odd number (31) of 1100.
    write_corpus(folder / "raw", train=920, valid=40, test=40, seed=3)
    encode_corpus(folder / "raw", folder / "bpe", ["de", "en"], ["train", "valid", "test"], 400)
    done = run_python(
        *("-m", "fairseq_cli.preprocess", "--source-lang", "de", "--target-lang", "en", "--joined-dictionary"),
        *("--trainpref", folder / "bpe/train", "--validpref", folder / "bpe/valid", "--testpref", folder / "bpe/test"),
        *("--destdir", folder / "bin"),
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def commands(run_programs, run_python, tmp_path_factory):
    """The helpers of this file as one object, since test modules cannot import a conftest."""

    class Commands:
        train_flags, generate_flags = TRAIN, GENERATE

        @staticmethod
        def fairseq(program, *arguments, **options):
            return run_python("-m", f"fairseq_cli.{program}", *arguments, **options)

        @staticmethod
        def train_on_ranks(ranks, *arguments):
            """fairseq-train on so many ranks."""
            store = tmp_path_factory.mktemp("store") / "file"
            words = ["-m", "fairseq_cli.train", *arguments, "--distributed-world-size", ranks, "--distributed-no-spawn"]
            words += ["--distributed-init-method", f"file://{store}", "--device-id", 0, "--distributed-backend", "gloo"]
            words += ["--ddp-backend", "legacy_ddp"]
            done = run_programs([[*words, "--distributed-rank", rank] for rank in range(ranks)])
            assert [each.returncode for each in done] == [0] * ranks, done[0].stderr[-3000:]

        @staticmethod
        def console_script(name, *arguments, **options):
            return run_python(Path(sys.executable).parent / name, *arguments, **options)

    for helper in (run, logged):
        setattr(Commands, helper.__name__, staticmethod(helper))
    return Commands


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A folder as fairseq-preprocess leaves it, of sentences of words that are letters."""
    from fairseq.data import Dictionary, indexed_dataset

    folder, generator, words = tmp_path_factory.mktemp("letters"), torch.Generator().manual_seed(0), Dictionary()
    for letter in "abcdefghijklmnop":
        words.add_symbol(letter)
    for language in ("de", "en"):
        words.save(str(folder / f"dict.{language}.txt"))
        for split, count in (("train", 64), ("valid", 8)):
            prefix = folder / f"{split}.de-en.{language}"
            builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(words))
            for number in range(count):
                tokens = torch.randint(4, len(words), (1 + number % 9,), generator=generator)
                builder.add_item(torch.cat([tokens, torch.tensor([words.eos()])]).int())
            builder.finalize(f"{prefix}.idx")
    return folder


@functools.cache
def composed(*words):
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), list(words)))


@pytest.fixture
def trainings(letters):
    """fairseq-train in this process, on the letters."""
    import fairseq_cli.train as program
    from fairseq.logging import metrics

    import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)

    class Trainings:
        data = letters

        @staticmethod
        def configuration(flags):
            """fairseq's configuration of a command line, which takes it a second."""
            return composed(str(letters), *map(str, flags))

        @staticmethod
        def train(cfg, folder):
            """What fairseq-train does."""
            cfg = copy.deepcopy(cfg)
            cfg.checkpoint.save_dir = str(folder)
            metrics.reset()
            program.main(cfg)

    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq's command line sets another
    return Trainings
