"""Whole runs by Hydra's own command line: a sweep over norms and seeds, here or on a cluster.

    python -m fairseq_powernorm.pipeline.sweep --multirun recipe=iwslt14_de_en norm=layer,power seed=1,2,3 hardware=gpu
    python -m fairseq_powernorm.pipeline.sweep --multirun recipe=iwslt14_de_en norm=none init=fixup,rezero seed=1,2,3
    python -m fairseq_powernorm.pipeline.sweep --multirun recipe=wmt14_en_de_big norm=layer,power seed=1 \
        hardware=gpu_fp16 hardware.devices=128 hardware.nodes=16 hydra/launcher=submitit_slurm \
        hydra.launcher.nodes=16 hydra.launcher.tasks_per_node=1 hydra.launcher.gpus_per_node=8 \
        hydra.launcher.timeout_min=2880

Each job trains, averages, recalibrates if the recipe says so, translates and scores one run, and skips what is done;
the data has to be prepared. ``+runs=DIR`` chooses another folder for the runs. An override of anything but recipe,
norm, seed, hardware and runs gives the run's folder a suffix: ``seed1,train.lr=0.001``. If a job fails, the others go
on. The launchers ``submitit_slurm`` and ``submitit_local`` come with the extra ``cluster``. Where a job has several
machines, Slurm starts it on each: the first keeps the records, the others join its training. A job that Slurm ends and
puts back into its queue goes on from its last checkpoint.
"""

import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ..files import read_and_write_utf8, run_command_line
from . import slurm
from .configuration import (
    CONFIGS,
    ROOT,
    check_norm_of_init,
    label_of,
    own_configs,
    run_folder,
    speak_as_fairseq_does,
)
from .processes import exit_on_sigterm
from .stages import node_rank_of, run_stages

logger = logging.getLogger(__name__)


def whole_run(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Every stage of the run that a composed configuration describes.

    Args:
        config: a run's; ``runs`` is the folder of all runs.
        overrides: what it was composed with.

    Raises:
        ValueError: data, hardware or settings that do not fit; the message says which.
    """
    speak_as_fairseq_does()
    config = config.copy()
    with open_dict(config):
        runs = config.pop("runs", None) or ROOT / "runs"
    OmegaConf.resolve(config)
    check_norm_of_init(config)
    run_stages(config, run_folder(config, runs, overrides).absolute(), node_rank=node_rank_of(config))


def main(config: DictConfig) -> None:
    """A job, as Hydra calls it; what does not fit is said in one line, and fails this job alone."""
    exit_on_sigterm()  # submitit ignores it, the training does not: the job would count as failed, not as requeued
    try:
        whole_run(config, HydraConfig.get().overrides.task)
    except (ValueError, OSError) as error:
        logger.error("%s: %s", label_of(config), " ".join(str(error).split()))
        raise


def prepare_launcher() -> None:
    """What jobs of Slurm need, where the arguments ask for them.

    Raises:
        ValueError: no Slurm on this machine, or no launcher.
    """
    if not any(word.endswith("launcher=submitit_slurm") for word in sys.argv[1:]):
        return
    if shutil.which("srun") is None:
        raise ValueError("hydra/launcher=submitit_slurm needs a machine with Slurm, this one has no srun")
    if importlib.util.find_spec("submitit") is None:
        raise ValueError("hydra/launcher=submitit_slurm needs the extra cluster: .venv/bin/pip install -e '.[cluster]'")
    os.environ.setdefault("SLURM_KILL_BAD_EXIT", "1")  # machines do not wait for one that has failed
    if not slurm.has_accounting():
        slurm.watch_queue()


def command() -> None:
    """The program."""
    read_and_write_utf8()
    run_command_line(prepare_launcher)
    sys.argv[1:1] = own_configs()
    # Here, not around main: it lets Hydra speak its version 1.3, and whoever imports this module may use fairseq.
    run_command_line(hydra.main(config_path=str(CONFIGS), config_name="run", version_base="1.3")(main))


if __name__ == "__main__":
    command()
