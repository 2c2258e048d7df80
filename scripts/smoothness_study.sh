#!/usr/bin/env bash
# How smooth the loss of ResNet20 is along its gradient without a norm and with BN, PN-V and LN, and the bound of Theorem 4
# along a training with PN. Needs prepare_cifar10.sh; --help names every option.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$caller_folder"
PYTHONUTF8=1 exec "$python" -P -m fairseq_powernorm.images.smoothness --data "$root/data/cifar10" "$@"
