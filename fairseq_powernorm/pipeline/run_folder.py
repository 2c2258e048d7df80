"""What a run's folder says that it is of: configuration and data, stored once it trains, compared before it goes on."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..files import atomic_write
from ..scoring.runs import load_config
from .commands import is_language_model, subset_of
from .configuration import ROOT, row_of

RESULT_SECTIONS = ("data", "train", "batch", "hardware", "average", "recalibrate", "generate", "score")
VARIABLE_SECTIONS = ("recalibrate", "generate", "score")  # what comes after the average
HARDWARE_FLAGS = (
    *("cpu", "fp16", "num-workers", "max-tokens", "update-freq", "norm-sync"),
    *("distributed-world-size", "ddp-backend", "distributed-backend"),
)
OLD_FINGERPRINT = "data.sha256"


def check_same_run(config: DictConfig, folder: Path) -> None:
    """Checks that a run that was begun in ``folder`` is the one that is asked for.

    What is compared is all that a result depends on. The hardware may be another once the training is over. A run that
    failed before its first checkpoint can be started again with other settings.

    Raises:
        ValueError: the folder holds another run; the message names a key that differs.
    """
    path, trained = folder / "config.yaml", (folder / "run.json").exists()
    if not path.exists() or not (trained or any(folder.glob("checkpoints/*.pt"))):
        return
    stored, asked = (flat_settings(each, trained) for each in (load_config(folder), config))
    if OLD_FINGERPRINT in stored and OLD_FINGERPRINT not in asked:
        asked |= old_fingerprint(config)
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
    ``trained``. Where the machines meet is of no account; a key without a value is as good as none."""
    names = {"norm.name": row_of(config), "seed": str(config.seed)}
    return names | {
        f"{section}.{key}": str(value)
        for section in RESULT_SECTIONS
        for key, value in (config.get(section) or {}).items()
        if value is not None
        and (section, key) != ("hardware", "master")
        and not (trained and (section == "hardware" or key in HARDWARE_FLAGS))
    }


def with_fingerprint(config: DictConfig) -> DictConfig:
    """The configuration with a digest of the data that it trains and validates on, if that is there: runs of other data
    are other runs. A test set may change: each has a digest of its own (:func:`check_same_test_set`)."""
    folder = ROOT / config.recipe.binarized
    if not folder.is_dir():
        return config
    digest = digest_of(*(path for name in ("dict*.txt", "train*.bin", "valid*.bin") for path in folder.glob(name)))
    settings = cast(dict, OmegaConf.to_container(config))
    return OmegaConf.create({**settings, "data": {"training_sha256": digest}})


def old_fingerprint(config: DictConfig) -> dict[str, str]:
    """What runs of before have, as :func:`flat_settings` gives it: a digest of dictionaries and of
    the sizes of all data, test sets among them."""
    folder, digest = ROOT / config.recipe.binarized, hashlib.sha256()
    for path in sorted(folder.glob("dict.*.txt")):
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.bin")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return {OLD_FINGERPRINT: digest.hexdigest()} if folder.is_dir() else {}


def digest_of(*paths: Path) -> str:
    """A digest of files' names and content, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def check_same_test_set(config: DictConfig, folder: Path, test_set: str, record: bool = False) -> None:
    """Checks that a run's translations are of the text that the test set has now; what older runs have not recorded is
    not compared.

    Args:
        config: the run's.
        folder: the run's.
        test_set: its name.
        record: write the text's digest down instead, before it is translated.

    Raises:
        ValueError: they are of another text.
    """
    binarized, raw = ROOT / config.recipe.binarized, ROOT / config.recipe.raw
    references = [raw, ROOT / config.recipe.tokenized] if config.recipe.get("tokenized") else [raw]
    files = [*binarized.glob(f"{subset_of(config, test_set)}.*"), *binarized.glob("dict*.txt")]
    if not is_language_model(config):
        files += [each / f"{test_set}.{config.recipe.target}" for each in references]
    digest = digest_of(*files)
    path = folder / test_set / "text.sha256"
    if record:
        with atomic_write(path) as stream:
            stream.write(f"{digest}\n")
    elif path.is_file() and path.read_text(encoding="utf-8").strip() != digest:
        what = "scores" if is_language_model(config) else "translations"
        raise ValueError(f"{path.parent} has {what} of another text than test set {test_set}; remove it")


def store_config(config: DictConfig, folder: Path) -> None:
    """Writes the run's configuration."""
    with atomic_write(folder / "config.yaml") as stream:
        stream.write(OmegaConf.to_yaml(config))


def write_texts(folder: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Writes files of lines by their names, each whole."""
    for name, lines in texts.items():
        with atomic_write(folder / name) as stream:
            stream.writelines(f"{line}\n" for line in lines)


def varied(folder: Path, into: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a second ending of a trained and averaged run: other settings after the same average.

    Args:
        folder: the run's.
        into: the folder of the second ending; one that holds it already will do.
        overrides: ``SECTION.KEY=VALUE`` with a section of :data:`VARIABLE_SECTIONS`.

    Raises:
        ValueError: no finished run, an override of another section or of no known key, or ``into`` holds another run.
    """
    older = {"recalibrate": {"batches": 0}}  # which older runs do not name
    config = cast(DictConfig, OmegaConf.merge(older, load_config(folder)))
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
    return config


def vary_run(folder: Path, into: Path, overrides: Sequence[str]) -> DictConfig:
    """Begins a second ending (:func:`varied`): ``into`` gets its configuration, the average and the run's record."""
    config = varied(folder, into, overrides)
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
