#!/usr/bin/env bash
# Every measurement of results/benchmarks that needs a CUDA device, the weightiest first, each within a time of its own:
# what one of them leaves undone does not keep the others from being done.
#
#   scripts/benchmark_cuda.sh [--parts LIST] [--output DIR] [--device NAME] [--small] [--dry-run]
#
#   --parts LIST    of tests, norms, tune, steps, decode, profile, separated by commas (default: all, in this order):
#                     tests     the suite's tests for CUDA devices (at most 5 minutes)
#                     norms     forward, backward and evaluation of every norm over LayerNorm (8 minutes)
#                     tune      the Triton kernels' constants (5 minutes)
#                     steps     whole updates of the IWSLT14 and the big WMT14 model, float32 and --fp16 (5 minutes)
#                     decode    beam search, folded and not, float32 and half precision (4 minutes)
#                     profile   where an update's time goes (3 minutes)
#   --output DIR    where the tables and logs go (default results/benchmarks)
#   --device NAME   the device (default cuda)
#   --small         all of it at sizes that mean nothing, in a few minutes, figures in the logs alone: tries the script;
#                   --device cpu will do
#   --dry-run       print the commands and do nothing
#
# Output: DIR/{norms,norms_half,routes,triton,train_step,decode,decode_half}_cuda.csv and .json,
# a chart, and DIR/PART_cuda.log of every part.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

parts=tests,norms,tune,steps,decode,profile output=$root/results/benchmarks device=cuda small=false dry_run=false
while (($#)); do
  case $1 in
    --parts) parts=$(value_of "$@"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --device) device=$(value_of "$@"); shift 2 ;;
    --small) small=true; shift ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
IFS=, read -ra part_list <<<"$parts"
for part in "${part_list[@]}"; do
  [[ $part =~ ^(tests|norms|tune|steps|decode|profile)$ ]] || fail "no part $part; see --help"
done
require_package
[[ $dry_run == true || $device != cuda* ]] || "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  fail "torch finds no CUDA device; --small --device cpu tries the script without one"
[[ $dry_run == true ]] || mkdir -p "$output"

# What the sizes are; with --small the least that goes through every line.
norm_sizes=(--tokens 4096 8192 16384 65536 --channels 512 1024 --dtypes float32 bfloat16 --rounds 20)
half_sizes=(--tokens 8192 65536 --channels 512 --dtypes float16 --padding yes --rounds 20)
route_sizes=(--tokens 8192 --channels 512 --dtypes float32 bfloat16 --padding yes --rounds 20)
tune_sizes=()
step_sizes=(--tokens 4096 --longest 32 --architectures iwslt wmt-big --precisions float32 fp16 --rounds 15 --warmup 4)
step_models=(--models layer power "power (groups)" "power (both stacks)" pn-v batch power-released)
decode_sizes=(--sentences 64 --rounds 15)
if [[ $small == true ]]; then
  norm_sizes=(--tokens 64 --channels 16 --dtypes float32 --rounds 2 --warmup 1 --skip-tests)
  half_sizes=("${norm_sizes[@]}") route_sizes=("${norm_sizes[@]}")
  tune_sizes=(--tokens 16 --channels 8 --dtypes float32 --constants STAGES --rounds 1)
  step_sizes=(--tokens 32 --longest 8 --types 50 --rounds 1 --warmup 1 --skip-tests)
  step_models=(--models power)
  decode_sizes=(--sentences 2 --length 3 --types 50 --rounds 1 --warmup 1 --skip-tests)
fi

# bench SCRIPT NAME WORD...: one benchmark, into OUTPUT/NAME_cuda.
bench() {
  local script=$1 name=$2
  shift 2
  run "$python" "benchmarks/$script.py" --device "$device" --output "$output/${name}_cuda" --force "$@"
}

tests() { run "$python" -m pytest -q -m gpu -p no:cacheprovider -rs tests; }
norms() {
  bench bench_norms norms --backends kernels "${norm_sizes[@]}"
  [[ $small == true ]] || run "$python" benchmarks/plot.py --input "$output/norms_cuda" --dtype bfloat16
  bench bench_norms norms_half --backends kernels "${half_sizes[@]}"
  bench bench_norms routes --backends kernels plain compiled --norms power pn-v batch "${route_sizes[@]}"
}
tune() { bench tune_triton triton "${tune_sizes[@]}"; }
steps() { bench bench_train_step train_step "${step_sizes[@]}" "${step_models[@]}"; }
decode() {
  bench bench_decode decode "${decode_sizes[@]}"
  [[ $device == cpu ]] || bench bench_decode decode_half --half "${decode_sizes[@]}"
}
profile() {
  run "$python" benchmarks/bench_train_step.py --device "$device" --profile --skip-tests "${step_sizes[@]}" \
    --architectures iwslt --models layer power
}

declare -A minutes=([tests]=5 [norms]=8 [tune]=5 [steps]=5 [decode]=4 [profile]=3)
failed=()
for part in "${part_list[@]}"; do
  if [[ $dry_run == true ]]; then
    "$part"
    continue
  fi
  log=$output/${part}_cuda.log
  printf '%s: %s, at most %d minutes, log in %s\n' "${0##*/}" "$part" "${minutes[$part]}" "$log" >&2
  # Process groups of their own: whatever the part has started ends with it, and so does the clock.
  set -m
  (set -e; "$part") >"$log" 2>&1 &
  group=$!
  (sleep $((60 * minutes[$part])); kill -TERM -- "-$group") >/dev/null 2>&1 &
  clock=$!
  set +m
  trap 'kill -TERM -- "-$group" "-$clock" 2>/dev/null' EXIT
  wait "$group" || failed+=("$part")
  kill -TERM -- "-$clock" 2>/dev/null || true
  trap - EXIT
  tail -n 3 "$log" >&2
done
((${#failed[@]} == 0)) || fail "not finished: ${failed[*]}; see the logs in $output"
[[ $dry_run == true ]] || summary "measured ${part_list[*]}, in $output"
