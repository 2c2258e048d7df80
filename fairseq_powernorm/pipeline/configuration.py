"""A run's configuration: Hydra composes it from a recipe, a norm, an initialization, the hardware and overrides."""

import functools
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PACKAGE = Path(__file__).resolve().parents[1]
IN_CLONE = (PACKAGE.parent / "scripts" / "common.sh").is_file()
SHIPPED = PACKAGE.parent if IN_CLONE else PACKAGE
"""Holds configs/ and scripts/: the clone, or the package itself where a wheel was installed."""
ROOT = SHIPPED if IN_CLONE else Path.cwd()
"""Where data/, data-bin/ and runs/ are and every command runs: the clone, or the folder in which the caller stands."""
CONFIGS = SHIPPED / "configs"
PLAIN_SECTIONS = (
    "recipe",
    "norm",
    "init",
    "seed",
    "hardware",
    "runs",
    "hydra",
    "record",
    "record_interval",
    "track",
)  # whose overrides do not rename a run
LONGEST_SUFFIX = 100
FAIRSEQ = "fairseq"  # of configs/init: what is there without an initialization


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


def times(value: float, factor: float) -> float:
    """A learning rate of ``configs/init`` for models like the papers', as a recipe's ``scale`` has it."""
    return float(f"{float(value) * factor:.6g}")


def whole_times(value: int, factor: float) -> int:
    """Likewise a number of updates, at least one."""
    return max(1, round(value * factor))


def where_several(devices: int, value: str) -> str | None:
    """A flag's value where several devices train together; no flag for one."""
    return value if devices > 1 else None


for resolver in (max_tokens, update_freq, norm_sync, forward_calls, times, whole_times, where_several):
    OmegaConf.register_new_resolver(f"powernorm.{resolver.__name__}", resolver, replace=True)


def speak_as_fairseq_does() -> None:
    """Tells Hydra that what follows is written for its version 1.1, as fairseq is.

    fairseq calls ``hydra.experimental``, which Hydra refuses in a process where somebody has spoken a later version.
    """
    version.setbase("1.1")


def own_configs() -> list[str]:
    """Hydra's override that adds the caller's ``configs/``, which holds recipes of his own, to the shipped ones."""
    own = ROOT / "configs"
    return [] if own == CONFIGS or not own.is_dir() else [f"hydra.searchpath=['{own.as_uri()}']"]


def config_files(group: str) -> dict[str, Path]:
    """The files of one group of the configuration by name, the caller's own and the shipped ones, which go first."""
    found = {path.stem: path for folder in (ROOT / "configs", CONFIGS) for path in (folder / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def choices(group: str) -> tuple[str, ...]:
    """The names in one group of the configuration: ``recipe``, ``norm``, ``init`` or ``hardware``."""
    return tuple(config_files(group))


def check_choice(group: str, name: str) -> str:
    """``name`` itself if the group has it.

    Raises:
        ValueError: it has not; the message lists what it has.
    """
    if name not in choices(group):
        raise ValueError(f"unknown {group} {name!r}; known: {', '.join(choices(group))}")
    return name


def usual_norm(init: str) -> str:
    """The norm that an initialization has unless another one is asked for; empty where there is no initialization."""
    return OmegaConf.load(config_files("init")[check_choice("init", init)]).init.get("norm", "")


def norm_and_init(row: str) -> tuple[str, str]:
    """The norm and the initialization of a row of a table.

    Args:
        row: ``NORM``; ``NORM+INIT``; or ``INIT`` with its usual norm: ``layer`` or, if it is for models without norms,
            ``none``.

    Raises:
        ValueError: an unknown name.
    """
    norm, plus, init = row.partition("+")
    if not plus and row in choices("init") and row != FAIRSEQ:
        return usual_norm(row), row
    if norm not in choices("norm"):
        known = (", ".join(choices(group)) for group in ("norm", "init"))
        raise ValueError("unknown norm {!r}; known: {}; initializations: {}".format(norm, *known))
    return norm, check_choice("init", init) if plus else FAIRSEQ


def row_of(config: DictConfig) -> str:
    """The name of a run's row, the shortest that :func:`norm_and_init` takes: of its folder, and in tables."""
    norm, init = config.norm.name, (config.get("init") or {}).get("name", FAIRSEQ)
    if init == FAIRSEQ:
        return norm
    return init if norm == usual_norm(init) else f"{norm}+{init}"


def check_norm_of_init(config: DictConfig) -> None:
    """Raises ``ValueError`` if a run's initialization and its encoder's norm do not go together."""
    norm, init = config.norm.name, config.init.name
    if init != FAIRSEQ and (usual_norm(init) == "none") != (norm == "none"):
        if usual_norm(init) == "none":
            raise ValueError(f"{init} is for models without norms, got {norm}+{init}; write {init}")
        if config.train.get("norm-position") == "post":
            raise ValueError(f"{init} is for post-norm models, got {norm}+{init}; write {init}, or another norm")


@functools.lru_cache
def _composed(recipe: str, norm: str, init: str, hardware: str, overrides: tuple[str, ...]) -> DictConfig:
    """The configuration, not resolved: one for all seeds."""
    GlobalHydra.instance().clear()  # fairseq initializes Hydra for itself when it is imported
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            chosen = [f"recipe={recipe}", f"norm={norm}", f"init={init}", f"hardware={hardware}"]
            return compose("run", overrides=[*own_configs(), *chosen, *overrides])
    finally:
        speak_as_fairseq_does()


def compose_run(
    recipe: str, norm: str = "power", hardware: str = "cpu", seed: int = 1, overrides: Sequence[str] = ()
) -> DictConfig:
    """Composes the configuration of one run.

    Args:
        recipe: a file of ``configs/recipe``.
        norm: a row of a table (:func:`norm_and_init`): a file of ``configs/norm``, or one of ``configs/init``, or both
            with ``+`` in between.
        hardware: a file of ``configs/hardware``.
        seed: seed of initialization, data order and dropout.
        overrides: Hydra overrides such as ``train.max-update=100`` or ``++train.dropout=0.1``.

    Returns:
        The resolved configuration.

    Raises:
        ValueError: an unknown name, a norm and an initialization that do not go together, or an override that does not
            apply.
    """
    for group, name in (("recipe", recipe), ("hardware", hardware)):
        check_choice(group, name)
    try:
        config = _composed(recipe, *norm_and_init(norm), hardware, tuple(overrides)).copy()
        config.seed = seed
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"configuration: {error}") from None
    if config.recipe.name != recipe:
        raise ValueError(
            f"{config_files('recipe')[recipe]} has recipe.name {config.recipe.name}: its runs lie among those of "
            f"another recipe; make it {recipe}"
        )
    check_norm_of_init(config)
    return config


def run_folder(config: DictConfig, runs: str | Path, overrides: Iterable[str] = ()) -> Path:
    """Where a run keeps everything: ``RUNS/RECIPE/NORM/seedN`` with NORM by :func:`row_of` and a suffix for
    ``overrides`` by :func:`suffix_of`."""
    return Path(runs) / config.recipe.name / row_of(config) / f"seed{config.seed}{suffix_of(overrides)}"


def suffix_of(overrides: Iterable[str]) -> str:
    """``,KEY=VALUE…`` for the overrides that change more than recipe, norm, seed and hardware, sorted; so the jobs of a
    sweep over a training flag have a folder each.

    What a file's name should not hold becomes ``_``; such a suffix, and a long one, ends with a checksum.
    """
    given = (override.lstrip("+~") for override in overrides)
    exact = "".join(f",{each}" for each in sorted(given) if re.split("[.=/@]", each)[0] not in PLAIN_SECTIONS)
    name = re.sub(r"[^\w.,=+-]", "_", exact)[:LONGEST_SUFFIX]
    return name if name == exact else f"{name}-{zlib.crc32(exact.encode()):08x}"


def label_of(config: DictConfig) -> str:
    """What messages call a run: norm and seed."""
    return f"{row_of(config)} seed {config.seed}"
