#!/usr/bin/env bash
# Table 1 of the PowerNorm paper, from the archives to the scores, with the paper's figures beside. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run table1 "$@"
