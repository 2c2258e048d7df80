"""Whole runs by Hydra's own command line: a sweep over norms and seeds, here or on a cluster.

    python -m fairseq_powernorm.sweep --multirun recipe=iwslt14_de_en norm=layer,power seed=1,2,3 hardware=gpu
    python -m fairseq_powernorm.sweep --multirun recipe=wmt14_en_de_big norm=layer,power seed=1 hardware=gpu_fp16 \
        hardware.devices=128 hardware.nodes=16 hydra/launcher=submitit_slurm hydra.launcher.nodes=16 \
        hydra.launcher.tasks_per_node=1 hydra.launcher.gpus_per_node=8 hydra.launcher.timeout_min=2880

Each job trains, averages, recalibrates if the recipe says so, translates and scores one run, and skips what is done;
the data has to be prepared. ``+runs=DIR`` chooses another folder for the runs. The launchers ``submitit_slurm`` and
``submitit_local`` come with the extra ``cluster``. Where a job has several machines, Slurm starts it on each: the first
keeps the records, the others join its training.
"""

import logging
import os
import shutil
import sys

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from .files import run_command_line
from .recipes import CONFIGS, ROOT, run_folder, speak_as_fairseq_does
from .stages import STAGES, join_training, run_stage

logger = logging.getLogger(__name__)


def whole_run(config: DictConfig) -> None:
    """Every stage of the run that a composed configuration describes, in the folder ``runs``/RECIPE/NORM/seedN.

    Raises:
        ValueError: data, hardware or settings that do not fit; the message says which.
    """
    speak_as_fairseq_does()
    config = config.copy()
    with open_dict(config):
        runs = config.pop("runs", None) or ROOT / "runs"
        if config.hardware.nodes > 1 and not config.hardware.master:
            config.hardware.master = f"{os.environ.get('SLURM_LAUNCH_NODE_IPADDR', 'localhost')}:29400"
    OmegaConf.resolve(config)
    folder = run_folder(config, runs).absolute()
    node_rank = int(os.environ.get("SLURM_NODEID", "0")) if config.hardware.nodes > 1 else 0
    if node_rank > 0:
        join_training(config, folder, node_rank)
        return
    for stage in STAGES:
        run_stage(stage, config, folder)


@hydra.main(config_path=str(CONFIGS), config_name="run", version_base="1.3")
def main(config: DictConfig) -> None:
    """Hydra's entry point; an error in the settings is one line, and ends the job with status 1."""
    try:
        whole_run(config)
    except (ValueError, OSError) as error:
        logger.error("%s seed %s: %s", config.norm.name, config.seed, " ".join(str(error).split()))
        sys.exit(1)


def check_launcher() -> None:
    """Raises ``ValueError`` where the arguments ask for Slurm and this machine has none."""
    if any(word.endswith("launcher=submitit_slurm") for word in sys.argv[1:]) and shutil.which("srun") is None:
        raise ValueError("hydra/launcher=submitit_slurm needs a machine with Slurm, this one has no srun")


if __name__ == "__main__":
    run_command_line(check_launcher)
    main()
