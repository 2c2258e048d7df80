#!/usr/bin/env bash
# Training and validation loss of a recipe's runs by update, as CSV and as a chart. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run curves "$@"
