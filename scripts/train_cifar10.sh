#!/usr/bin/env bash
# Trains ResNet20 on CIFAR-10 with a norm and records what its norms see; continues after the last epoch if it was
# interrupted. --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$caller_folder"
PYTHONUTF8=1 exec "$python" -P -m fairseq_powernorm.images --data "$root/data/cifar10" "$@"
