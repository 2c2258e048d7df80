#!/usr/bin/env bash
# Prepares IWSLT14 German-English as in the published experiments: Moses' tokens, lower-cased, cleaned; 10000 joint BPE
# merges; fairseq's binary form with one dictionary. The text is checked against the official preparation's MD5s.
#
#   scripts/prepare_iwslt14_de_en.sh [--from DIR] [--any-archive] [--bpe-codes FILE] [--merges N] [--force] [--dry-run]
#
#   --from DIR         take de-en.tgz (20 MB) from DIR instead of downloading it
#   --any-archive      take an archive of another size or checksum too; the prepared text is checked in any case
#   --bpe-codes FILE   use these merges instead of learning them
#   --merges N         merges to learn (default 10000)
#   --force            make it again where it exists
#   --dry-run          print the commands and do nothing
#
# Output: data/iwslt14_de_en/{tokenized,raw,bpe}, data-bin/iwslt14_de_en. Stopped, it goes on with what is missing.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

from="" options=() codes="" merges=10000 force=false dry_run=false
while (($#)); do
  case $1 in
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --any-archive) options+=(--any-archive); shift ;;
    --bpe-codes) value=$(value_of "$@"); codes=$(from_caller "$value"); shift 2 ;;
    --merges) merges=$(value_of "$@"); shift 2 ;;
    --force) force=true; shift ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

name=iwslt14_de_en
require_package
begin_preparation "$name" "$force" tokenized bpe
[[ -z $codes || -f $codes ]] || fail "$codes: no such file"
until_done "data/$name/tokenized" "$python" -m fairseq_powernorm.corpora.iwslt14 --destination "data/$name" \
  ${from:+--from "$from"} "${options[@]}"
run "$python" -m fairseq_powernorm.corpora.subword_bpe --text "data/$name/tokenized" --destination "data/$name/bpe" \
  --languages de,en --merges "$merges" ${codes:+--codes "$codes"}
binarize "$name" "data/$name/bpe" de en train,valid,test
end_preparation "$name"
