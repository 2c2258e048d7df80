#!/usr/bin/env bash
# Which part of PowerNorm does the work: definitions and rows of Table 1 over seeds. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run ablation "$@"
