#!/usr/bin/env bash
# The table of a recipe's finished runs, and a bar chart. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run table "$@"
