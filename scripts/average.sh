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

stage_of_a_run average averaged "$@"
