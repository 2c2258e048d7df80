#!/usr/bin/env bash
# A whole recipe: prepares the data, then trains, averages, translates and scores every norm with every seed, and makes
# the table. What is done already is skipped; an interrupted training continues after its last checkpoint.
#
#   scripts/run_recipe.sh --recipe NAME [--norm LIST] [--seed LIST] [--hardware NAME] [--jobs N] [--runs DIR]
#                         [--output PREFIX] [--from DIR] [--override KEY=VALUE]...
#
#   --recipe NAME          a file of configs/recipe: demo_de_en, multi30k_de_en, smoke_de_en (a few updates)
#   --norm LIST            files of configs/norm, separated by commas (default layer,batch,pn-v,power); there are
#                          power-group-scaling and power-released too
#   --seed LIST            seeds, separated by commas (default 1)
#   --hardware NAME        a file of configs/hardware: cpu (default), gpu, gpu_fp16
#   --jobs N               runs at the same time, sharing the cores (default: one a core on cpu, else 1)
#   --runs DIR             folder of all runs (default runs)
#   --output PREFIX        the table's files (default RUNS/RECIPE/table)
#   --from DIR             the raw data's folder, handed to the recipe's preparation
#   --override KEY=VALUE   a Hydra override for every run

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" norms=layer,batch,pn-v,power seeds=1 hardware=cpu jobs="" runs=$root/runs output="" from=""
overrides=() words=("$@")
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --norm) norms=$(value_of "$@"); shift 2 ;;
    --seed) seeds=$(value_of "$@"); shift 2 ;;
    --hardware) hardware=$(value_of "$@"); shift 2 ;;
    --jobs) jobs=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --override) value=$(value_of "$@"); overrides+=(--override "$value"); shift 2 ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
output=${output:-$runs/$recipe/table}
if [[ -z $jobs ]]; then
  if [[ $hardware == cpu ]]; then jobs=$(nproc); else jobs=1; fi
fi
[[ $jobs =~ ^[1-9][0-9]*$ ]] || fail "--jobs takes a number above 0, got $jobs"
IFS=, read -ra norm_list <<<"$norms"
IFS=, read -ra seed_list <<<"$seeds"
total=$((${#norm_list[@]} * ${#seed_list[@]}))
((jobs <= total)) || jobs=$total
# One thread a job and core: two processes that each spin on every core are many times slower than two that do not.
threads=$(($(nproc) / jobs))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

require_package
launch=("$python" -m fairseq_powernorm.launch)
show() { "${launch[@]}" show --recipe "$recipe" --hardware "$hardware" --runs "$runs" "${overrides[@]}" "$@"; }

# Every name and override is checked before the first long step.
folders=()
for norm in "${norm_list[@]}"; do
  for seed in "${seed_list[@]}"; do
    folder=$(show --norm "$norm" --seed "$seed" --key folder)
    folders+=("$norm $seed $folder")
  done
done
preparation=$(show --norm "${norm_list[0]}" --key recipe.prepare)
IFS=, read -ra preparation_words <<<"$preparation"
run "${preparation_words[@]}" ${from:+--from "$from"}

whole_run() {
  local norm=$1 seed=$2 folder=$3
  run "${launch[@]}" train --recipe "$recipe" --norm "$norm" --seed "$seed" --hardware "$hardware" --runs "$runs" \
    "${overrides[@]}"
  run "${launch[@]}" average --run "$folder"
  run "${launch[@]}" translate --run "$folder"
  run "${launch[@]}" score --run "$folder"
}

# With job control each run is a process group of its own, which can be stopped with all that it started.
set -m
groups=()
stop_all() {
  trap - INT TERM
  kill -TERM "${groups[@]/#/-}" 2>/dev/null || true
  fail "stopped; the same command continues where the runs are"
}
trap stop_all INT TERM
running=0 failed=0
wait_for_one() {
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
}
for entry in "${folders[@]}"; do
  ((running < jobs)) || wait_for_one
  read -r norm seed folder <<<"$entry"
  (set -e; whole_run "$norm" "$seed" "$folder") &
  groups+=("$!")
  running=$((running + 1))
done
while ((running > 0)); do
  wait_for_one
done
((failed == 0)) || fail "$failed of $total runs failed, see above; the same command continues where they stopped"

run scripts/table.sh --recipe "$recipe" --runs "$runs" --output "$output" \
  --command "scripts/run_recipe.sh ${words[*]}"
summary "$total runs of $recipe, table in $output.md"
