"""From a recipe to the command lines of fairseq: Hydra composes the configuration, this turns it into arguments."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def max_tokens(batch: Mapping[str, int], devices: int) -> int:
    """``--max-tokens``: the tokens of one pass on one device.

    Args:
        batch: ``tokens_per_update``, and ``tokens_per_device``, the most that one device takes at a time.
        devices: how many train together.

    Raises:
        ValueError: a number below 1.
    """
    for name, value in {**batch, "devices": devices}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"expected {name} to be a whole number above 0, got {value!r}")
    return min(batch["tokens_per_device"], math.ceil(batch["tokens_per_update"] / devices))


def update_freq(max_tokens: int, batch: Mapping[str, int], devices: int) -> int:
    """``--update-freq``: the passes whose gradients make one optimizer update, so that it has ``tokens_per_update``.

    Rounded to a whole number of passes, at least one: 3 devices of 4096 tokens make 524,288 in 43 passes, 0.8 % more.
    """
    return max(1, round(batch["tokens_per_update"] / (max_tokens * devices)))


def tokens_warning(config: DictConfig) -> str | None:
    """What to say where the devices cannot make an update of exactly the recipe's tokens, or None."""
    asked, made = config.batch.tokens_per_update, config.train["max-tokens"] * config.hardware.devices
    made *= config.train["update-freq"]
    if made == asked:
        return None
    return (
        f"an update has {made} tokens on {config.hardware.devices} devices ({made / asked - 1:+.1%}), the recipe's has "
        f"{asked}; a number of devices that divides its passes makes them equal"
    )


def norm_sync(max_tokens: int, batch: Mapping[str, int], devices: int, norm_syncs: bool) -> bool:
    """``--norm-sync``: where several devices train, whether a norm's statistics are taken over all of them.

    Args:
        max_tokens: the tokens of one pass on one device.
        batch: as for :func:`max_tokens`.
        devices: how many train together.
        norm_syncs: what the norm's configuration says: true for BN and PN-V, as the paper ran its big model, false for
            PN. Where devices share what one would take in a single pass it is always true: only then are the
            statistics those of a run on one device.
    """
    return devices > 1 and (norm_syncs or max_tokens < min(batch["tokens_per_device"], batch["tokens_per_update"]))


def forward_calls(updates: int, update_freq: int) -> int:
    """Forward calls in a number of optimizer updates: what the warm-up of ``power-released`` counts."""
    return updates * update_freq


for resolver in (max_tokens, update_freq, norm_sync, forward_calls):
    OmegaConf.register_new_resolver(f"powernorm.{resolver.__name__}", resolver, replace=True)


def speak_as_fairseq_does() -> None:
    """Tells Hydra that what follows is written for its version 1.1, as fairseq is.

    fairseq calls ``hydra.experimental``, which Hydra refuses in a process where somebody has spoken a later version.
    """
    version.setbase("1.1")


def choices(group: str) -> tuple[str, ...]:
    """The names in one group of the configuration: ``recipe``, ``norm`` or ``hardware``."""
    return tuple(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


def check_choice(group: str, name: str) -> str:
    """``name`` itself if the group has it.

    Raises:
        ValueError: it has not; the message lists what it has.
    """
    if name not in choices(group):
        raise ValueError(f"unknown {group} {name!r}; known: {', '.join(choices(group))}")
    return name


def compose_run(
    recipe: str, norm: str = "power", hardware: str = "cpu", seed: int = 1, overrides: Sequence[str] = ()
) -> DictConfig:
    """Composes the configuration of one run.

    Args:
        recipe: a file of ``configs/recipe``.
        norm: a file of ``configs/norm``.
        hardware: a file of ``configs/hardware``.
        seed: seed of initialization, data order and dropout.
        overrides: Hydra overrides such as ``train.max-update=100`` or ``++train.dropout=0.1``.

    Returns:
        The resolved configuration.

    Raises:
        ValueError: an unknown name or an override that does not apply.
    """
    for group, name in (("recipe", recipe), ("norm", norm), ("hardware", hardware)):
        check_choice(group, name)
    GlobalHydra.instance().clear()  # fairseq initializes Hydra for itself when it is imported
    chosen = [f"recipe={recipe}", f"norm={norm}", f"hardware={hardware}", f"seed={seed}", *overrides]
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("run", overrides=chosen)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"configuration: {error}") from None
    finally:
        speak_as_fairseq_does()
    if config.recipe.name != recipe:
        raise ValueError(
            f"{CONFIGS / 'recipe' / recipe}.yaml has recipe.name {config.recipe.name}: its runs lie among those of "
            f"another recipe; make it {recipe}"
        )
    return config


def check_average(config: DictConfig) -> None:
    """Raises ``ValueError`` if the training will not leave as many checkpoints as the recipe averages, as far as its
    flags tell."""
    train, last = config.train, config.average.last
    if config.average.by == "update":
        interval, updates = train.get("save-interval-updates"), train.get("max-update")
        made = [updates // interval] if interval and updates else []
        kept = [train["keep-interval-updates"]] if train.get("keep-interval-updates", -1) > 0 else []
    else:
        made, kept = [], [train["keep-last-epochs"]] if train.get("keep-last-epochs", -1) > 0 else []
    if (left := min([*made, *kept], default=last)) < last:
        raise ValueError(
            f"average.last is {last}, but the training leaves {left} checkpoints by {config.average.by} "
            "(max-update, save-interval-updates, keep-interval-updates, keep-last-epochs)"
        )


def to_arguments(flags: DictConfig | dict[str, Any]) -> list[str]:
    """Flags as a command line: a value becomes ``--flag value``, True a bare ``--flag``, False and None nothing."""
    arguments = []
    for flag, value in flags.items():
        if value is None or value is False:
            continue
        arguments.append(f"--{flag}")
        if value is not True:
            arguments.append(str(value))
    return arguments


def run_folder(config: DictConfig, runs: str | Path) -> Path:
    """Where a run keeps everything: ``RUNS/RECIPE/NORM/seedN``."""
    return Path(runs) / config.recipe.name / config.norm.name / f"seed{config.seed}"


def train_arguments(config: DictConfig, folder: str | Path) -> list[str]:
    """The arguments of ``fairseq-train`` for a run whose checkpoints go to ``folder``/checkpoints."""
    return [
        *(config.recipe.binarized, "--source-lang", config.recipe.source, "--target-lang", config.recipe.target),
        *to_arguments(config.train),
        *("--save-dir", str(Path(folder) / "checkpoints")),
    ]


def number_of_test_set(config: DictConfig, test_set: str) -> int:
    """The place of a test set among those that fairseq-preprocess was given, which is all that fairseq knows of it.

    It stands in the data's ``test_sets.txt``; data without one is taken to have the recipe's order.

    Raises:
        ValueError: the recipe or its data has no such test set.
    """
    test_sets, record = list(config.recipe.test_sets), ROOT / config.recipe.binarized / "test_sets.txt"
    if test_set not in test_sets:
        raise ValueError(f"unknown test set {test_set!r}; the recipe has {', '.join(test_sets)}")
    if record.is_file():
        test_sets = record.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # a name may have spaces
    if test_set not in test_sets:
        raise ValueError(f"{record.parent} has no test set {test_set!r}; it has {', '.join(test_sets)}")
    return test_sets.index(test_set)


def generate_arguments(config: DictConfig, checkpoint: str | Path, test_set: str) -> list[str]:
    """The arguments of ``fairseq-generate`` for one of the recipe's test sets.

    Raises:
        ValueError: the recipe or its data has no such test set.
    """
    number = number_of_test_set(config, test_set)
    return [
        *(config.recipe.binarized, "--source-lang", config.recipe.source, "--target-lang", config.recipe.target),
        *to_arguments(config.generate),
        *("--path", str(checkpoint), "--gen-subset", f"test{number or ''}"),
    ]
