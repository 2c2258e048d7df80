#!/usr/bin/env bash
# Averages the checkpoints of a finished run, the ones that its recipe names, in float64.
#
#   scripts/average.sh --run DIR
#
#   --run DIR   the run's folder: RUNS/RECIPE/NORM/seedN
#
# Output: RUN/averaged.pt; what exists is left as it is.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=""
while (($#)); do
  case $1 in
    --run) value=$(value_of "$@"); folder=$(from_caller "$value"); shift 2 ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $folder ]] || fail "--run is missing; see --help"

require_package
run "$python" -m fairseq_powernorm.launch average --run "$folder"
summary "$folder is averaged"
