#!/usr/bin/env bash
# Translates the recipe's test sets with a run's averaged checkpoint, by beam search.
#
#   scripts/translate.sh --run DIR
#
#   --run DIR   the run's folder: RUNS/RECIPE/NORM/seedN
#
# Output: RUN/TEST_SET/hypothesis.txt and reference.txt; what exists is left as it is.

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
run "$python" -m fairseq_powernorm.launch translate --run "$folder"
summary "$folder is translated"
