#!/usr/bin/env bash
# Scores a run's translations with sacreBLEU and prints BLEU with its signature. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run score "$@"
