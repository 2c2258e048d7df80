#!/usr/bin/env bash
# Trains one norm by a recipe; continues after the last checkpoint if it was interrupted.
#
#   scripts/train.sh --recipe NAME --norm NAME [--seed N] [--hardware NAME] [--runs DIR] [--override KEY=VALUE]...
#                    [--node-rank N] [--dry-run]
#
#   --recipe NAME          a file of configs/recipe: demo_de_en, multi30k_de_en, iwslt14_de_en, wmt14_en_de, …
#   --norm NAME            a file of configs/norm: layer, batch, pn-v, power, power-released, batch-plain, …
#   --seed N               seed of initialization, data order and dropout (default 1)
#   --hardware NAME        a file of configs/hardware: cpu (default), gpu, gpu_fp16
#   --runs DIR             folder of all runs (default runs)
#   --override KEY=VALUE   a Hydra override, such as train.max-update=100; ++train.KEY sets one that the recipe has not
#   --node-rank N          which machine this is of several (hardware.nodes); 0 keeps the records
#   --dry-run              print the fairseq-train command and stop
#
# Output: RUNS/RECIPE/NORM/seedN with config.yaml, train.log, checkpoints/ and, at the end, run.json.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

options=() runs=$root/runs
while (($#)); do
  case $1 in
    --recipe | --norm | --seed | --hardware | --override | --node-rank) value=$(value_of "$@"); options+=("$1" "$value"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --dry-run) options+=(--dry-run); shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

require_package
run "$python" -m fairseq_powernorm.launch train "${options[@]}" --runs "$runs"
summary "done"
