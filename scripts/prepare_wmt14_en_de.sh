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
# It takes all cores, hours on two of them, less than 4 GB of memory and 10 GB of disk.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

from="" codes="" merges=32764 force=false dry_run=false
while (($#)); do
  case $1 in
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --bpe-codes) value=$(value_of "$@"); codes=$(from_caller "$value"); shift 2 ;;
    --merges) merges=$(value_of "$@"); shift 2 ;;
    --force) force=true; shift ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

name=wmt14_en_de
require_package
begin_preparation "$name" "$force" tokenized raw reference bpe
[[ -z $codes || -f $codes ]] || fail "$codes: no such file"
until_done "data/$name/tokenized" "$python" -m fairseq_powernorm.corpora.wmt14 --destination "data/$name" \
  ${from:+--from "$from"}
run "$python" -m fairseq_powernorm.corpora.subword_bpe --text "data/$name/tokenized" --destination "data/$name/bpe" \
  --languages en,de --merges "$merges" ${codes:+--codes "$codes"}
binarize "$name" "data/$name/bpe" en de train,valid,test
end_preparation "$name"
