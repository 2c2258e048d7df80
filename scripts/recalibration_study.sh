#!/usr/bin/env bash
# What recalibration changes: BLEU of finished runs before and after. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run recalibration "$@"
