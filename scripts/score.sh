#!/usr/bin/env bash
# Scores a run's translations with sacreBLEU and prints BLEU with its signature.
#
#   scripts/score.sh --run DIR
#
#   --run DIR   the run's folder: RUNS/RECIPE/NORM/seedN
#
# Output: RUN/TEST_SET/score.json; what exists is left as it is.

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
run "$python" -m fairseq_powernorm.launch score --run "$folder"
summary "$folder is scored"
