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

stage_of_a_run translate translated "$@"
