#!/usr/bin/env bash
# A run as a job of Slurm: trains, averages, translates and scores, on all machines and GPUs that the job has.
#
#   sbatch --nodes=2 --gpus-per-node=8 --time=2-0 scripts/slurm_run.sh --recipe wmt14_en_de_big --norm power \
#       --hardware gpu_fp16
#
# Submitted from the checkout's folder, once the data is prepared. What stands before the script are sbatch's options,
# what stands after it those of `powernorm-run run`; devices and machines are filled in. The environment variable
# POWERNORM_PYTHON names another Python than .venv's. Ended by Slurm and put back into the queue, or submitted again,
# the run goes on from its last checkpoint. Two minutes before its time is up the job puts itself back (not with
# --no-requeue).
#SBATCH --ntasks-per-node=1 --requeue --open-mode=append --signal=B:USR1@120
set -euo pipefail

if [[ -z ${SLURM_JOB_ID:-} || ${1:-} == --help ]]; then
  sed -n '2,/^#SBATCH/ { /^#SBATCH/ d; s/^# \{0,1\}//; p }' "$0"
  exit "$([[ ${1:-} == --help ]] && echo 0 || echo 1)"
fi
devices=$((SLURM_JOB_NUM_NODES * ${SLURM_GPUS_ON_NODE:-1}))
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-} # which newer sruns do not take over
[[ -n $SRUN_CPUS_PER_TASK ]] || unset SRUN_CPUS_PER_TASK
trap 'scontrol requeue "$SLURM_JOB_ID" || true' USR1
srun --kill-on-bad-exit=1 "${POWERNORM_PYTHON:-.venv/bin/python}" -m fairseq_powernorm.pipeline run "$@" \
  --override hardware.nodes="$SLURM_JOB_NUM_NODES" --override hardware.devices="$devices" &
while kill -0 "$!" 2>/dev/null; do
  wait "$!" && status=0 || status=$? # which the signal ends, too
done
exit "$status"
