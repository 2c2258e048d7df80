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

own_switches=(any-archive)
prepare_from_archives iwslt14_de_en iwslt14 de en 10000 "tokenized bpe" "$@"
