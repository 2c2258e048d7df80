#!/usr/bin/env bash
# Prepares WMT14 English-German: Europarl v7, Common Crawl and News Commentary v12 for training, newstest2013 for
# validation, newstest2014 for the test. Moses' punctuation, tokens (hyphens split) and cleaning (1 to 80 tokens); 32764
# joint BPE merges; fairseq's binary form with one dictionary; and the references that BLEU needs.
#
#   scripts/prepare_wmt14_en_de.sh [--from DIR] [--bpe-codes FILE] [--merges N] [--force] [--dry-run]
#
#   --from DIR         take the five archives (1.8 GB) from DIR instead of downloading them
#   --bpe-codes FILE   use these merges instead of learning them
#   --merges N         merges to learn (default 32764)
#   --force            make it again where it exists
#   --dry-run          print the commands and do nothing
#
# Output: data/wmt14_en_de/{tokenized,raw,reference,bpe}, data-bin/wmt14_en_de. Stopped, it goes on with what is missing.
# About an hour on two cores, less than 4 GB of memory and 10 GB of disk; with more cores the rest, but not the learning
# of the merges (a quarter of an hour), takes less.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

own_switches=()
prepare_from_archives wmt14_en_de wmt14 en de 32764 "tokenized raw reference bpe" "$@"
