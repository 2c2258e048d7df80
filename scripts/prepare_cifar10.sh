#!/usr/bin/env bash
# Prepares CIFAR-10, for train_cifar10.sh: downloads the official archive for Python (170 MB) and checks its images.
#
#   scripts/prepare_cifar10.sh [--from DIR] [--force] [--dry-run]
#
#   --from DIR   take it from DIR instead: cifar-10-python.tar.gz, the unpacked cifar-10-batches-py, or train.npz and
#                test.npz of JPEG images (a copy that is not lossless: every run then says so)
#   --force      make it again where it exists
#   --dry-run    print the command and do nothing
#
# Output: data/cifar10/train.npz and test.npz (pixels, labels), in an order in which the first images of any multiple of
# ten have as many of each class.

# shellcheck source=scripts/common.sh disable=SC2154  # take_options sets the options
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

take_options from= -- "$@"
folder=data/cifar10
require_package
if [[ $dry_run == false ]]; then
  only_one cifar10
  if [[ $force == false && -f $folder/train.npz && -f $folder/test.npz ]]; then
    summary "$folder is there already, whatever the options say; --force makes it again"
    exit 0
  fi
fi
run "$python" -m fairseq_powernorm.corpora.cifar10 --destination "$folder" ${from:+--from "$from"}
[[ $dry_run == true ]] || summary "$folder is ready"
