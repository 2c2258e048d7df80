#!/usr/bin/env bash
# Translates the recipe's test sets with a run's averaged checkpoint, by beam search. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run translate "$@"
