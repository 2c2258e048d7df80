#!/usr/bin/env bash
# How a norm bears small batches: the same update in one pass or in several smaller ones. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
powernorm_run batch-sizes "$@"
