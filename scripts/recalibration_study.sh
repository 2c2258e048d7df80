#!/usr/bin/env bash
# What recalibration changes: every finished run of a recipe gets a second ending, in which the running statistics of its
# average are estimated anew on training data, and is translated and scored again. A table of BLEU before and after comes
# out. What is done already is skipped. Runs of norms without running statistics (layer) are left out.
#
#   scripts/recalibration_study.sh --recipe NAME [--batches N] [--runs DIR] [--into DIR] [--jobs N] [--output PREFIX]
#                                  [--override KEY=VALUE]... [--dry-run]
#
#   --recipe NAME          the recipe, such as multi30k_de_en
#   --batches N            batches of training data to estimate on (default 100)
#   --runs DIR             folder of all runs (default runs)
#   --into DIR             folder of the second endings (default RUNS/recalibrated_N)
#   --jobs N               runs at the same time (default 1)
#   --output PREFIX        writes PREFIX.md and PREFIX.csv (default RUNS/RECIPE/recalibration_N)
#   --override KEY=VALUE   a setting of recalibrate, generate or score for every second ending; it differs from the first
#                          one by it too then
#   --dry-run              print the commands and do nothing

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" batches=100 runs=$root/runs into="" jobs=1 output="" dry_run=false overrides=() words=("$@")
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --batches) batches=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --into) value=$(value_of "$@"); into=$(from_caller "$value"); shift 2 ;;
    --jobs) jobs=$(value_of "$@"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --override) value=$(value_of "$@"); overrides+=(--override "$value"); shift 2 ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
[[ $batches =~ ^[1-9][0-9]*$ ]] || fail "--batches takes a number above 0, got $batches"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || fail "--jobs takes a number above 0, got $jobs"
into=${into:-$runs/recalibrated_$batches} output=${output:-$runs/$recipe/recalibration_$batches}
[[ $(realpath -m -- "$into") != "$(realpath -m -- "$runs")" ]] || fail "--into is the folder of the runs themselves"
folders=()
for folder in "$runs/$recipe"/*/seed*; do
  norm=${folder%/*}
  [[ ! -f $folder/run.json || ! -f $folder/averaged.pt || ${norm##*/} == layer ]] || folders+=("$folder")
done
((${#folders[@]})) || fail "$runs/$recipe holds no run with running statistics that is trained and averaged"

changes=""
for ((place = 1; place < ${#overrides[@]}; place += 2)); do
  changes+=", ${overrides[place]}"
done

require_package
launch=("$python" -m fairseq_powernorm.launch)
threads=$(($(nproc) / jobs))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

# second_ending FOLDER: every stage behind the average.
second_ending() {
  local ending=$into${1#"$runs"} verb
  run "${launch[@]}" vary --run "$1" --into "$ending" --override "recalibrate.batches=$batches" "${overrides[@]}"
  for verb in recalibrate translate score; do
    run "${launch[@]}" "$verb" --run "$ending"
  done
}

set -m
trap 'trap - INT TERM; kill -TERM $(jobs -p | sed s/^/-/) 2>/dev/null; exit 130' INT TERM
finished=$(mktemp)
trap 'rm -f "$finished"' EXIT
for folder in "${folders[@]}"; do
  if [[ $dry_run == true ]]; then
    second_ending "$folder"
    continue
  fi
  while (($(jobs -rp | wc -l) >= jobs)); do
    wait -n || true
  done
  (set -e; second_ending "$folder"; printf '%s\n' "$folder" >>"$finished") &
done
wait
failed=$((${#folders[@]} - $(wc -l <"$finished")))
[[ $dry_run == true ]] || ((failed == 0)) || fail "$failed of ${#folders[@]} runs failed, see above; once the cause is gone, the same command goes on"
run "$python" -m fairseq_powernorm.scoring.comparison --before "$runs/$recipe" --after "$into/$recipe" --force \
  --output-prefix "$output" --title "$recipe: recalibrated on $batches batches$changes" \
  --command "$(reproducing recalibration_study.sh "${words[@]}")"
[[ $dry_run == true ]] || summary "wrote $output.md and $output.csv"
