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

# shellcheck source=scripts/common.sh disable=SC2154  # take_options sets the options
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

take_options from= vocabulary=6000 -- "$@"

name=multi30k_de_en
require_package
begin_preparation "$name" "$force"
run "$python" -m fairseq_powernorm.corpora.multi30k --destination "data/$name/raw" ${from:+--from "$from"}
encode_and_binarize "$name" "$vocabulary"
