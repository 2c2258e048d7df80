"""A run's settings in its folder: stored once it trains, and compared before it goes on."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .files import atomic_write

RESULT_SECTIONS = ("train", "batch", "hardware", "average", "recalibrate", "generate", "score")
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
        if stored.get(key) != asked.get(key):
            raise ValueError(
                f"{path} is of another configuration: {key} is {stored.get(key)}, asked for {asked.get(key)}; give "
                f"another --runs folder, or remove {folder}"
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
