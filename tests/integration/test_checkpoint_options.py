"""Every option of fairseq's that changes what a checkpoint holds, one at a time: a training that is interrupted and
started again ends as one that was left alone, and its checkpoints can be averaged, recalibrated, folded, converted and
translated with."""

import argparse
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, optim
from fairseq.logging import metrics
from fairseq.optim import lr_scheduler
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf, open_dict

from fairseq_powernorm.checkpoints.average import average_checkpoints
from fairseq_powernorm.checkpoints.convert import convert_checkpoint
from fairseq_powernorm.checkpoints.fold import fold_checkpoint, folded_sites
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.checkpoints.select import select_in_folder
from fairseq_powernorm.transformer.recalibrate import recalibrate_checkpoint

pytestmark = pytest.mark.slow

NORM_FLAGS = ["--norm-type=power", "--norm-group-scaling=0", "--norm-warmup-updates=2"]
MODEL = [
    *("--source-lang", "de", "--target-lang", "en", "--cpu", "--num-workers", "0", "--seed", "1"),
    *("--arch", "powernorm_tiny", *NORM_FLAGS),
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8", "--encoder-layers", "1"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "8", "--decoder-ffn-embed-dim", "8"),
    *("--decoder-layers", "1", "--decoder-attention-heads", "2", "--share-all-embeddings"),
    *("--max-tokens", "150", "--save-interval-updates", "3", "--max-epoch", "2", "--no-progress-bar"),
]
ADAM = ["--optimizer", "adam", "--lr", "0.01"]
SMOOTHED = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
BLEU = ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}']
EMA = ["--store-ema", "--ema-decay", "0.9"]


@dataclass(frozen=True)
class Option:
    """One row of the table.

    Attributes:
        flags: what it adds to the command line.
        optimizer: instead of Adam.
        criterion: instead of label smoothing.
        folds: the norms can be folded into the layers after them.
        interrupted_after: the checkpoint that the training is started again from.
        exact: the restarted training ends bit for bit as the other.
    """

    flags: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = tuple(ADAM)
    criterion: tuple[str, ...] = tuple(SMOOTHED)
    folds: bool = True
    interrupted_after: str = "checkpoint_1_3.pt"
    exact: bool = True

    @property
    def command_line(self):
        return [*MODEL, *self.optimizer, *self.criterion, *self.flags]


def optimizer(name, *flags):
    return Option(optimizer=("--optimizer", name, "--lr", "0.01", *flags))


def schedule(name, *flags):
    return Option((*flags, "--lr-scheduler", name))


OPTIMIZERS = {
    "adam": optimizer("adam", "--adam-betas", "(0.9, 0.98)", "--weight-decay", "0.01"),
    "adadelta": optimizer("adadelta"),
    "adafactor": optimizer("adafactor"),
    "adagrad": optimizer("adagrad"),
    "adamax": optimizer("adamax"),
    "nag": optimizer("nag"),
    "sgd": optimizer("sgd", "--momentum", "0.9"),
    "composite": Option(),  # see `option_configuration`
}
NOT_ON_THE_CPU = {"cpu_adam": "needs deepspeed", "lamb": "needs apex"}
SCHEDULERS = {
    "cosine": schedule("cosine", "--max-update", "99", "--lr-period-updates", "4", "--warmup-updates", "2"),
    "fixed": schedule("fixed", "--force-anneal", "1", "--warmup-updates", "2"),
    "inverse_sqrt": schedule("inverse_sqrt", "--warmup-updates", "4", "--warmup-init-lr", "1e-7"),
    "manual": schedule("manual", "--epoch2lr", "{'1': 0.01, '2': 0.002}", "--update2lr", "{'4-6': 0.02}"),
    "pass_through": OPTIMIZERS["composite"],
    "polynomial_decay": schedule("polynomial_decay", "--total-num-update", "20", "--warmup-updates", "2"),
    "t_fixup": schedule("t_fixup", "--decay-updates", "5"),
    # The validation loss falls, so that to go by its growth counts bad epochs.
    "reduce_lr_on_plateau": Option(
        (
            *("--lr-scheduler", "reduce_lr_on_plateau", "--lr-patience", "1", "--lr-shrink", "0.5", "--max-epoch", "4"),
            *("--maximize-best-checkpoint-metric", "--warmup-updates", "2"),
        ),
        interrupted_after="checkpoint2.pt",
    ),
    "step": schedule("step", "--lr-deacy-period", "3", "--warmup-updates", "2"),
    "tri_stage": schedule("tri_stage", "--warmup-steps", "2", "--hold-steps", "2", "--decay-steps", "9"),
    "triangular": schedule("triangular", "--max-lr", "0.02", "--lr-period-updates", "4"),
}
STATES = {
    "nothing": Option(),
    "eval-bleu": Option((*BLEU, "--eval-bleu-detok", "space")),
    "eval-bleu as the metric": Option((*BLEU, "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric")),
    "accuracy as the metric": Option(
        ("--report-accuracy", "--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric")
    ),
    "meters of every kind": Option(("--task", "translation_with_meters")),
    "store-ema": Option((*EMA, "--ema-update-freq", "2"), folds=False),
    "ema-fp32": Option((*EMA, "--ema-fp32"), folds=False),
    "patience": Option(("--patience", "3")),
    "curriculum": Option(("--curriculum", "1")),
    "keep-best-checkpoints": Option(("--keep-best-checkpoints", "3")),
    "amp": Option(("--amp",)),
    "fp16": Option(("--fp16", "--fp16-init-scale", "1024"), exact=False),  # see docs/guarantees.md
    "memory-efficient-fp16": Option(("--memory-efficient-fp16", "--fp16-scale-window", "2")),
    "update-freq": Option(("--update-freq", "2"), interrupted_after="checkpoint_2_3.pt"),
    "sentence-avg": Option(("--sentence-avg",)),
    "grouped-shuffling": Option(("--grouped-shuffling",)),
    "update-epoch-batch-itr": Option(("--update-epoch-batch-itr", "True")),
    "cross_entropy": Option(criterion=("--criterion", "cross_entropy")),
    "R-drop": Option(criterion=("--criterion", "label_smoothed_cross_entropy_with_rdrop", "--label-smoothing", "0.1")),
    "checkpoint-activations": Option(("--checkpoint-activations",)),
    "quant-noise": Option(("--quant-noise-pq", "0.1", "--quant-noise-pq-block-size", "2")),
    "layernorm-embedding": Option(("--layernorm-embedding",)),
    "post-norm": Option(("--norm-position", "post"), folds=False),
    "batch": Option(("--norm-type", "batch", "--decoder-norm-type", "pn-v")),
    "released": Option(("--norm-type", "power-released", "--norm-group-scaling", "heads"), folds=False),
}
TABLE = {
    **STATES,
    **{f"optimizer {name}": option for name, option in OPTIMIZERS.items()},
    **{f"lr-scheduler {name}": option for name, option in SCHEDULERS.items() if name != "pass_through"},
}


def test_the_table_has_all_optimizers_and_schedulers():
    assert set(optim.OPTIMIZER_REGISTRY) == set(OPTIMIZERS) | set(NOT_ON_THE_CPU)
    assert set(lr_scheduler.LR_SCHEDULER_REGISTRY) == set(SCHEDULERS)


@register_task("translation_with_meters", dataclass=TranslationConfig)
class TranslationWithMeters(TranslationTask):
    """Logs values of every kind: as error rates, counts and speeds of other tasks do."""

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        for number, value in enumerate((1, 2.5, np.float32(0.5), np.float64(0.1), np.int64(3), torch.tensor(1.5))):
            metrics.log_scalar(f"_value{number}", value, weight=value, round=3)
            metrics.log_scalar_sum(f"_sum{number}", value)
        metrics.log_scalar("_counts", np.array([1, 2, 3]))
        metrics.log_scalar("_shares", np.array([[0.5, 0.25]], dtype=np.float32))
        metrics.log_scalar("_flag", np.bool_(True))
        metrics.log_speed("_speed", np.int64(4))
        metrics.log_concat_tensor("_tensor", torch.ones(2))
        metrics.log_start_time("_stopwatch")
        metrics.log_stop_time("_stopwatch", weight=np.float32(1))
        metrics.log_derived("_derived", lambda values: values["_value1"].avg)


def option_configuration(option, trainings):
    """That of an option: groups of parameters, each with an optimizer of its own, are no flags."""
    cfg = trainings.configuration(option.command_line)
    if option is OPTIMIZERS["composite"]:
        with open_dict(cfg):
            group = {"optimizer": dict(cfg.optimizer), "lr_scheduler": {**cfg.lr_scheduler, "lr": [0.01]}}
            group["optimizer"]["lr"] = [0.01]
            cfg.optimizer = OmegaConf.create({"_name": "composite", "groups": {"default": group}})
            cfg.optimizer.update(dynamic_groups=False)
            cfg.lr_scheduler = OmegaConf.create({"_name": "pass_through"})
    return cfg


TIMES = ("wps", "ups", "train_wall", "wall", "gb_free", "_speed", "_stopwatch")


def comparable(state):
    """A checkpoint without clocks, names of folders, the count of restarts, and what fairseq itself begins anew: the
    meters of the log, some at every restart ("default"), all where an epoch begins."""
    extra = {key: value for key, value in state["extra_state"].items() if key != "previous_training_time"}
    extra["metrics"] = {
        aggregate: [entry for entry in entries if entry[1] not in TIMES]
        for aggregate, entries in extra["metrics"].items()
        if aggregate != "default"
    }
    cfg = {key: value for key, value in state["cfg"].items() if key != "checkpoint"}
    return {**state, "extra_state": extra, "cfg": cfg, "optimizer_history": state["optimizer_history"][-1]}


def differences(one, other, path=""):
    """Where two values differ."""
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            yield f"{path}: {one.keys() ^ other.keys()}"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{path}: lengths"
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f"{path}[{number}]")
    elif isinstance(one, argparse.Namespace):
        yield from differences(vars(one), vars(other), path)
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield f"{path}: {one} and {other}"
    elif not np.array_equal(one, other):
        yield f"{path}: {one} and {other}"


def translate(path, data):
    """Token numbers of translations by fairseq's own loading and search."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], {"data": str(data)})
    task.load_dataset("valid")
    generator = task.build_generator(models, argparse.Namespace(beam=2, max_len_b=5))
    sample = task.dataset("valid").collater([task.dataset("valid")[number] for number in range(4)])
    return [
        best[0]["tokens"].tolist()
        for best in task.inference_step(generator, [model.eval() for model in models], sample)
    ]


@pytest.mark.parametrize("name", TABLE)
def test_an_option(name, trainings, tmp_path, monkeypatch):
    option, whole, parts = TABLE[name], tmp_path / "whole", tmp_path / "parts"
    cfg = option_configuration(option, trainings)
    if cfg.common.fp16:  # which asks for the number of the CUDA device and moves one zero there
        monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
        monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    trainings.train(cfg, whole)
    parts.mkdir()
    shutil.copy(whole / option.interrupted_after, parts / "checkpoint_last.pt")
    trainings.train(cfg, parts)
    one, other = (comparable(load_checkpoint(folder / "checkpoint_last.pt")) for folder in (whole, parts))
    if re.fullmatch(r"checkpoint\d\.pt", option.interrupted_after):
        other["extra_state"]["metrics"] = one["extra_state"]["metrics"]
    assert not option.exact or list(differences(one, other)) == []
    assert other["optimizer_history"]["num_updates"] == one["optimizer_history"]["num_updates"]

    average = tmp_path / "averaged.pt"
    save_checkpoint(average_checkpoints(select_in_folder(whole, last=2)), average)
    assert len(translate(average, trainings.data)) == 4
    if cfg.checkpoint.keep_best_checkpoints > 0:
        assert len(average_checkpoints(select_in_folder(whole, best=2))["extra_state"]["averaged_from"]) == 2
    assert recalibrate_checkpoint(average, trainings.data, batches=2, cpu=True)["extra_state"]["recalibrated_on"]
    if option.folds:
        assert folded_sites(fold_checkpoint(average))


@pytest.mark.parametrize(
    "name", ["eval-bleu as the metric", "meters of every kind", "ema-fp32", "R-drop", "optimizer adafactor"]
)
def test_a_stock_model_is_converted(name, trainings, tmp_path):
    flags = [*TABLE[name].command_line, "--max-epoch", "1", "--arch", "transformer", "--encoder-normalize-before"]
    stock = [flag for flag in [*flags, "--decoder-normalize-before"] if flag not in NORM_FLAGS]
    cfg = trainings.configuration(stock)
    trainings.train(cfg, tmp_path)
    save_checkpoint(convert_checkpoint(tmp_path / "checkpoint_last.pt"), tmp_path / "converted.pt")
    assert translate(tmp_path / "converted.pt", trainings.data) == translate(
        tmp_path / "checkpoint_last.pt", trainings.data
    )
