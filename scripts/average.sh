#!/usr/bin/env bash
# Averages the checkpoints of a finished run, the ones that its recipe names, in float64. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run average "$@"
