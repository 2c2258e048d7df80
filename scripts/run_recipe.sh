#!/usr/bin/env bash
# A whole recipe: data, training, averaging, translating and scoring for every norm and seed, the table. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run recipe "$@"
