#!/usr/bin/env bash
# Trains one norm by a recipe; continues after the last checkpoint if it was interrupted. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run train "$@"
