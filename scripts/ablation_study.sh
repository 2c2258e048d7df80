#!/usr/bin/env bash
# Which part of PowerNorm does the work: LayerNorm; BN, PN-V and PN by their definitions and as the rows of Table 1, with
# a per-token scaling in front; PN with the scaling alone and with the warm-up alone. Every cell with every seed, the
# first seed of all cells first. Interrupted, it continues with the same command.
#
#   scripts/ablation_study.sh --recipe NAME [--norms LIST] [--seeds LIST] [--runs DIR] [--output PREFIX] [OPTION]...
#
#   --recipe NAME          a file of configs/recipe
#   --norms LIST           files of configs/norm (default: layer and the eight cells above)
#   --seeds LIST           (default 1,2,3)
#   --runs DIR             folder of all runs (default runs)
#   --output PREFIX        writes PREFIX.md, PREFIX.csv and PREFIX.png (default RUNS/RECIPE/ablation)
#   --hardware NAME, --gpus N, --jobs N, --from DIR, --override KEY=VALUE
#                          as in run_recipe.sh
#   --dry-run              print every command and do nothing

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

norms=layer,batch-plain,batch,pn-v-plain,pn-v,power-plain,power-warmup-only,power-scaling-only,power
recipe="" seeds=1,2,3 runs=$root/runs output="" dry_run=false given=() words=("$@")
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --norms) norms=$(value_of "$@"); shift 2 ;;
    --seeds) seeds=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --from) value=$(value_of "$@"); given+=(--from "$(from_caller "$value")"); shift 2 ;;
    --hardware | --gpus | --jobs | --override) value=$(value_of "$@"); given+=("$1" "$value"); shift 2 ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
output=${output:-$runs/$recipe/ablation}
IFS=, read -ra seed_list <<<"$seeds"

require_package
for seed in "${seed_list[@]}"; do
  one_seed=(scripts/run_recipe.sh --recipe "$recipe" --norms "$norms" --seeds "$seed" --runs "$runs" "${given[@]}")
  if [[ $dry_run == true ]]; then
    "${one_seed[@]}" --dry-run
  else
    run "${one_seed[@]}"
  fi
done
run "$python" -m fairseq_powernorm.analysis.ablation --runs "$runs/$recipe" --output-prefix "$output" --force \
  --title "$recipe" --command "$(reproducing ablation_study.sh "${words[@]}")"
[[ $dry_run == true ]] || summary "wrote $output.md, $output.csv and $output.png"
