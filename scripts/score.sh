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

stage_of_a_run score scored "$@"
