#!/usr/bin/env bash
# A whole recipe: prepares the data, then trains, averages, translates and scores every norm with every seed, and makes
# the table. What is done already is skipped; an interrupted training continues after its last checkpoint.
#
#   scripts/run_recipe.sh --recipe NAME [--norms LIST] [--seeds LIST] [--hardware NAME] [--gpus N] [--jobs N]
#                         [--runs DIR] [--output PREFIX] [--from DIR] [--override KEY=VALUE]... [--dry-run]
#
#   --recipe NAME          a file of configs/recipe: demo_de_en, multi30k_de_en, mix_de_en, iwslt14_de_en,
#                          wmt14_en_de, wmt14_en_de_big, smoke_de_en (a few updates)
#   --norms LIST           files of configs/norm, separated by commas (default layer,batch,pn-v,power, the rows of Table
#                          1); the bare definitions are batch-plain, pn-v-plain and power-plain
#   --seeds LIST           seeds, separated by commas (default 1)
#   --hardware NAME        a file of configs/hardware: cpu (default without --gpus), gpu (default with it), gpu_fp16
#   --gpus N               CUDA devices of this machine to use. A run trains on as many as an update has full passes
#                          for (one for 4096 tokens an update); as many runs as fit go on side by side
#   --jobs N               runs at the same time, sharing the cores (default: one a core on cpu, else what fits --gpus)
#   --runs DIR             folder of all runs (default runs)
#   --output PREFIX        the table's files (default RUNS/RECIPE/table); the losses go to PREFIX_curves.csv and .png
#   --from DIR             the raw data's folder, handed to the recipe's preparation
#   --override KEY=VALUE   a Hydra override for every run
#   --dry-run              print every command of the whole recipe and do nothing

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" norms=layer,batch,pn-v,power seeds=1 hardware="" gpus="" jobs="" runs=$root/runs output="" from=""
dry_run=false overrides=() words=("$@")
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --norms | --norm) norms=$(value_of "$@"); shift 2 ;;
    --seeds | --seed) seeds=$(value_of "$@"); shift 2 ;;
    --hardware) hardware=$(value_of "$@"); shift 2 ;;
    --gpus) gpus=$(value_of "$@"); shift 2 ;;
    --jobs) jobs=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --override) value=$(value_of "$@"); overrides+=(--override "$value"); shift 2 ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
output=${output:-$runs/$recipe/table}
hardware=${hardware:-$([[ -n $gpus ]] && printf gpu || printf cpu)}
[[ $hardware != cpu || -z $gpus ]] || fail "--gpus goes with --hardware gpu or gpu_fp16"
[[ $hardware == cpu ]] || gpus=${gpus:-1}
[[ $gpus =~ ^([1-9][0-9]*)?$ ]] || fail "--gpus takes a number above 0, got $gpus"
[[ $seeds =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "--seeds takes numbers separated by commas, got $seeds"
[[ $norms =~ ^[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)*$ ]] || fail "--norms takes names separated by commas, got '$norms'"
[[ -z $(tr , '\n' <<<"$norms" | sort | uniq -d) ]] || fail "--norms names one twice: $norms"
[[ -z $(tr , '\n' <<<"$seeds" | sort | uniq -d) ]] || fail "--seeds names one twice: $seeds"
[[ $jobs =~ ^([1-9][0-9]*)?$ ]] || fail "--jobs takes a number above 0, got $jobs"
IFS=, read -ra norm_list <<<"$norms"
IFS=, read -ra seed_list <<<"$seeds"
total=$((${#norm_list[@]} * ${#seed_list[@]}))

require_package
launch=("$python" -m fairseq_powernorm.launch)
show() { "${launch[@]}" show --recipe "$recipe" --hardware "$hardware" --runs "$runs" "${overrides[@]}" "$@"; }

# A run's devices: no more than an update has full passes for.
devices=1
if [[ -n $gpus ]]; then
  update=$(show --norm "${norm_list[0]}" --key batch.tokens_per_update)
  pass=$(show --norm "${norm_list[0]}" --key batch.tokens_per_device)
  devices=$(((update + pass - 1) / pass))
  ((devices <= gpus)) || devices=$gpus
  overrides+=(--override "hardware.devices=$devices")
fi
if [[ -z $jobs ]]; then
  if [[ -n $gpus ]]; then jobs=$((gpus / devices)); else jobs=$(nproc); fi
fi
((jobs <= total)) || jobs=$total
# One thread a job and core: two processes that each spin on every core are many times slower than two that do not.
threads=$(($(nproc) / jobs))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

# Every name and override, the devices and the room on the disk are checked before the first long step.
entries=() folders=()
for norm in "${norm_list[@]}"; do
  for seed in "${seed_list[@]}"; do
    folder=$(show --norm "$norm" --seed "$seed" --key folder)
    entries+=("$norm $seed $folder")
    folders+=("$folder")
  done
done
preparation=$(show --norm "${norm_list[0]}" --key recipe.prepare)
IFS=, read -ra preparation_words <<<"$preparation"
[[ -z $from || ${preparation_words[0]} != *prepare_demo.sh ]] || fail "the data of $recipe is generated: leave out --from"
preparation_words+=(${from:+--from "$from"})
make_table=(scripts/table.sh --recipe "$recipe" --runs "$runs" --output "$output" "${overrides[@]}"
  --command "$(reproducing "${POWERNORM_COMMAND:-run_recipe.sh}" "${words[@]}")")
make_curves=(scripts/curves.sh --recipe "$recipe" --runs "$runs" --output "${output}_curves")

if [[ $dry_run == true ]]; then
  "${preparation_words[@]}" --dry-run
  for entry in "${entries[@]}"; do
    read -r norm seed folder <<<"$entry"
    for verb in train average recalibrate translate score; do
      "${launch[@]}" "$verb" --recipe "$recipe" --norm "$norm" --seed "$seed" --hardware "$hardware" --runs "$runs" \
        "${overrides[@]}" --dry-run
    done
  done
  print_command "${make_table[@]}"
  print_command "${make_curves[@]}"
  exit 0
fi
"${launch[@]}" preflight --recipe "$recipe" --hardware "$hardware" --runs "$runs" "${overrides[@]}" \
  ${gpus:+--gpus "$gpus"} "${folders[@]}"
run "${preparation_words[@]}"

# whole_run SLOT NORM SEED FOLDER: every stage of one run, on the devices of its slot.
whole_run() {
  local slot=$1 norm=$2 seed=$3 folder=$4 verb
  if [[ -n $gpus && -z ${CUDA_VISIBLE_DEVICES:-} ]]; then
    CUDA_VISIBLE_DEVICES=$(seq -s, $((slot * devices % gpus)) $((slot * devices % gpus + devices - 1)))
    export CUDA_VISIBLE_DEVICES
  fi
  run "${launch[@]}" train --recipe "$recipe" --norm "$norm" --seed "$seed" --hardware "$hardware" --runs "$runs" \
    "${overrides[@]}"
  for verb in average recalibrate translate score; do
    run "${launch[@]}" "$verb" --run "$folder"
  done
}

# With job control each run is a process group of its own, which can be stopped with all that it started.
set -m
slots=()  # the process group in each slot
stop_all() {
  trap - INT TERM
  kill -TERM "${slots[@]/#/-}" 2>/dev/null || true
  { wait; } 2>/dev/null || true
  printf '%s: stopped; the same command continues where the runs are\n' "${0##*/}" >&2
  exit "$1"
}
trap 'stop_all 130' INT
trap 'stop_all 143' TERM
finished=$(mktemp)  # a line for every run that came to its end
trap 'rm -f "$finished"' EXIT
for entry in "${entries[@]}"; do
  slot=0
  while [[ -n ${slots[slot]:-} ]] && kill -0 "${slots[slot]}" 2>/dev/null; do
    slot=$((slot + 1))
    if ((slot == jobs)); then
      wait -n || true
      slot=0
    fi
  done
  read -r norm seed folder <<<"$entry"
  (set -e; whole_run "$slot" "$norm" "$seed" "$folder"; printf '%s\n' "$folder" >>"$finished") &
  slots[slot]=$!
done
wait
failed=$((total - $(wc -l <"$finished")))
((failed == 0)) || fail "$failed of $total runs failed, see above; once the cause is gone, the same command continues where they stopped"

run "${make_table[@]}"
run "${make_curves[@]}"
summary "$total runs of $recipe, table in $output.md"
