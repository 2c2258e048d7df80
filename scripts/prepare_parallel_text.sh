#!/usr/bin/env bash
# Prepares parallel text of one's own: joint BPE merges learnt on the training text (subword-nmt), fairseq's binary form.
# A recipe for it is a file of configs/recipe; mix_de_en.yaml is one to copy.
#
#   scripts/prepare_parallel_text.sh --name NAME --from DIR [--source LANGUAGE] [--target LANGUAGE] [--merges N]
#                                    [--force] [--dry-run]
#
#   --name NAME          what to call it: the folder below data/ and data-bin/
#   --from DIR           folder with train.LANGUAGE, valid.LANGUAGE and test sets test*.LANGUAGE, plain or .gz, one
#                        sentence a line; taken as it is, so tokenise and lower-case it before where you want that
#   --source LANGUAGE    (default de)
#   --target LANGUAGE    (default en)
#   --merges N           joint BPE merges (default 10000)
#   --force              make it again where it exists
#   --dry-run            print the commands and do nothing
#
# Output: data/NAME/text, data/NAME/bpe (subwords), data-bin/NAME. The recipe's test_sets name all or some of the test
# sets: what stands before the language in the names of their files.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name="" from="" source=de target=en merges=10000 force=false dry_run=false
while (($#)); do
  case $1 in
    --name) name=$(value_of "$@"); shift 2 ;;
    --from) value=$(value_of "$@"); from=$(from_caller "$value"); shift 2 ;;
    --source) source=$(value_of "$@"); shift 2 ;;
    --target) target=$(value_of "$@"); shift 2 ;;
    --merges) merges=$(value_of "$@"); shift 2 ;;
    --force) force=true; shift ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $name ]] || fail "--name is missing; see --help"
[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "--name takes letters, digits, '.', '_' and '-', got $name"

[[ $merges =~ ^[1-9][0-9]*$ ]] || fail "--merges takes a number above 0, got $merges"
[[ -n $from || $dry_run == true ]] || { [[ $force == false ]] && is_prepared "$name"; } ||
  fail "--from, the folder with the text, is missing; see --help"
[[ -z $from || $(realpath -m -- "$from")/ != "$(realpath -m "data/$name")"/* ]] ||
  fail "--from lies in data/$name, which is written here: give the text a folder of its own"

require_package
corpus=("$python" -m fairseq_powernorm.corpora.parallel_text --from "${from:-DIR}" --languages "$source,$target")
if [[ $dry_run == false ]] && { [[ $force == true ]] || ! is_prepared "$name"; }; then
  "${corpus[@]}" >/dev/null  # reads all of it, before anything is removed
  force=true  # what an earlier preparation left may be of other text
fi
begin_preparation "$name" "$force" text raw bpe
run "${corpus[@]}" --destination "data/$name"
run "$python" -m fairseq_powernorm.corpora.subword_bpe --text "data/$name/text" --destination "data/$name/bpe" \
  --languages "$source,$target" --merges "$merges"
binarize "$name" "$source" "$target"
