#!/usr/bin/env bash
# Prepares Multi30k German-English: raw text (checked by SHA-256), a joint sentencepiece BPE, fairseq's binary form.
#
#   scripts/prepare_multi30k.sh [--from DIR] [--vocabulary N] [--force] [--dry-run]
#
#   --from DIR       take the dataset's .gz files from DIR instead of downloading them
#   --vocabulary N   pieces of the joint BPE (default 6000)
#   --force          make it again where it exists
#   --dry-run        print the commands and do nothing
#
# Output: data/multi30k_de_en/raw (text), data/multi30k_de_en/bpe (pieces), data-bin/multi30k_de_en.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

from="" vocabulary=6000 force=false dry_run=false
while (($#)); do
  case $1 in
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --vocabulary) vocabulary=$(value_of "$@"); shift 2 ;;
    --force) force=true; shift ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

name=multi30k_de_en
require_package
begin_preparation "$name" "$force"
run "$python" -m fairseq_powernorm.corpora.multi30k --destination "data/$name/raw" ${from:+--from "$from"}
encode_and_binarize "$name" "$vocabulary"
