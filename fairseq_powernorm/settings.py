"""A run's settings in its folder: stored once it trains, and compared before it goes on."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .files import atomic_write

RESULT_SECTIONS = ("data", "train", "batch", "hardware", "average", "recalibrate", "generate", "score")
VARIABLE_SECTIONS = ("recalibrate", "generate", "score")  # what comes behind the average
HARDWARE_FLAGS = ("cpu", "fp16", "num-workers", "max-tokens", "update-freq", "norm-sync", "distributed-world-size")


def check_same_run(config: DictConfig, folder: Path) -> None:
    """Checks that a run that was begun in ``folder`` is the one that is asked for.

    What is compared is all that a result depends on. The hardware may be another once the training is over. A run that
    came to no checkpoint binds nobody.

    Raises:
        ValueError: the folder holds another run; the message names a key that differs.
    """
    path, trained = folder / "config.yaml", (folder / "run.json").exists()
    if not path.exists() or not (trained or any(folder.glob("checkpoints/*.pt"))):
        return
    stored, asked = (flat_settings(each, trained) for each in (OmegaConf.load(path), config))
    for key in sorted(stored.keys() | asked.keys()):
        if key.startswith("data.") and not (key in stored and key in asked):  # older runs, or the data is gone
            continue
        if stored.get(key) != asked.get(key):
            raise ValueError(
                f"{path} is of another configuration: {key} is {stored.get(key)}, asked for {asked.get(key)}; give "
                f"another folder for the runs, or remove {folder}"
            )


def flat_settings(config: DictConfig, trained: bool) -> dict[str, str]:
    """What a run's results depend on, as ``section.key`` and text; without what follows from the hardware if
    ``trained``."""
    names = {"norm.name": str(config.norm.name), "seed": str(config.seed)}
    return names | {
        f"{section}.{key}": str(value)
        for section in RESULT_SECTIONS
        for key, value in (config.get(section) or {}).items()
        if not (trained and (section == "hardware" or key in HARDWARE_FLAGS))
    }


def store_config(config: DictConfig, folder: Path) -> None:
    """Writes the run's configuration."""
    with atomic_write(folder / "config.yaml") as stream:
        stream.write(OmegaConf.to_yaml(config))


def load_config(folder: Path) -> DictConfig:
    """The configuration of a run by its folder.

    Raises:
        ValueError: the folder holds no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run (no config.yaml)")
    return OmegaConf.load(path)


def vary_run(folder: Path, into: Path, overrides: Sequence[str]) -> DictConfig:
    """Gives a trained and averaged run a second ending: a folder with the same average and other settings behind it.

    Args:
        folder: the run's.
        into: the new folder; one that holds the same variation stays as it is.
        overrides: ``SECTION.KEY=VALUE`` with a section of :data:`VARIABLE_SECTIONS`.

    Returns:
        The new configuration.

    Raises:
        ValueError: no finished run, an override of another section or of no known key, or ``into`` holds another run.
    """
    config = OmegaConf.merge({"recalibrate": {"batches": 0}}, load_config(folder))  # which older runs do not name
    for name in ("run.json", "averaged.pt"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a run that was trained and averaged (no {name})")
    if into.absolute() == folder.absolute():
        raise ValueError(f"{into} is the run itself; give another folder")
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in VARIABLE_SECTIONS:
            raise ValueError(f"expected SECTION.KEY=VALUE, SECTION one of {', '.join(VARIABLE_SECTIONS)}: {override!r}")
    try:
        OmegaConf.set_struct(config, True)
        config.merge_with_dotlist(list(overrides))
    except OmegaConfBaseException as error:
        raise ValueError(f"configuration: {error}") from None
    OmegaConf.set_struct(config, False)
    check_same_run(config, into)
    store_config(config, into)
    for name in ("averaged.pt", "run.json"):  # a run is there once its record is
        if not (into / name).exists():
            _link(folder / name, into / name)
    return config


def _link(source: Path, destination: Path) -> None:
    """A hard link, or a copy on another disk."""
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, destination)
