#!/usr/bin/env bash
# The PowerNorm paper's figures from a recipe's runs, as PNG and CSV. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run figures "$@"
