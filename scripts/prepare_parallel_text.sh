#!/usr/bin/env bash
# Prepares parallel text of one's own, raw or tokenised: joint subwords learnt on the training text, fairseq's binary form.
# A recipe for it is a file of configs/recipe: copy tatoeba_de_en.yaml for raw text, mix_de_en.yaml for tokenised text.
#
#   scripts/prepare_parallel_text.sh --name NAME --from DIR [--source LANGUAGE] [--target LANGUAGE]
#       [--tokenizer none|moses] [--lowercase] [--max-words N] [--max-ratio R]
#       [--subwords subword-nmt|sentencepiece] [--merges N | --vocabulary N] [--force] [--dry-run]
#
#   --name NAME          what to call it: the folder below data/ and data-bin/
#   --from DIR           folder with train.LANGUAGE, valid.LANGUAGE and test sets test*.LANGUAGE, plain or .gz, one
#                        sentence a line
#   --source LANGUAGE    (default de)
#   --target LANGUAGE    (default en)
#   --tokenizer NAME     moses, or none (default): for tokenised text, and for raw text with sentencepiece
#   --lowercase          lower-case the text
#   --max-words N        leave out training pairs with more words on a side
#   --max-ratio R        leave out training pairs with more than R times as many words on one side as on the other
#   --subwords TOOL      joint BPE by subword-nmt (default) or by sentencepiece
#   --merges N           merges that subword-nmt learns (default 10000)
#   --vocabulary N       pieces that sentencepiece learns (default 8000)
#   --force              make it again where it exists
#   --dry-run            print the commands and do nothing
#
# Output: data/NAME/text (what the model reads and writes), data/NAME/raw (the test sets, neither tokenised nor
# lower-cased here), data/NAME/bpe (subwords), data-bin/NAME. It ends with the lines of a recipe that undo what was
# chosen before translations are scored. The recipe's test_sets name all or some of the test sets: what stands before
# the language in the names of their files.

# shellcheck source=scripts/common.sh disable=SC2154  # take_options sets the options
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

take_options name= from= source=de target=en tokenizer=none lowercase max-words= max-ratio= subwords=subword-nmt \
  merges= vocabulary= -- "$@"
steps=(--tokenizer "$tokenizer" ${max_words:+--max-words "$max_words"} ${max_ratio:+--max-ratio "$max_ratio"})
suffix=""  # of the protocols
if [[ $lowercase == true ]]; then
  steps+=(--lowercase) suffix=-lowercase
fi
[[ -n $name ]] || fail "--name is missing; see --help"
require_name "$name"
[[ $tokenizer == @(none|moses) ]] || fail "--tokenizer takes none or moses, got $tokenizer"
case $subwords in
  subword-nmt)
    [[ -z $vocabulary ]] || fail "--vocabulary goes with --subwords sentencepiece; subword-nmt takes --merges"
    size=${merges:-10000} learn=(subword_bpe --merges "$size") remove_bpe=subword_nmt
    ;;
  sentencepiece)
    [[ -z $merges ]] || fail "--merges goes with --subwords subword-nmt; sentencepiece takes --vocabulary"
    size=${vocabulary:-8000} learn=(sentencepiece_bpe --normalization identity --vocabulary "$size")
    remove_bpe=sentencepiece
    ;;
  *) fail "--subwords takes subword-nmt or sentencepiece, got $subwords" ;;
esac
[[ $size =~ ^[1-9][0-9]*$ ]] || fail "${learn[-2]} takes a number above 0, got $size"
[[ -n $from || $dry_run == true ]] || { [[ $force == false ]] && is_prepared "$name"; } ||
  fail "--from, the folder with the text, is missing; see --help"
[[ -z $from || $(realpath -m -- "$from")/ != "$(realpath -m "data/$name")"/* ]] ||
  fail "--from lies in data/$name, which is written here: give the text a folder of its own"

require_package
corpus=("$python" -m fairseq_powernorm.corpora.parallel_text --from "${from:-DIR}" --languages "$source,$target"
  "${steps[@]}")
if [[ $dry_run == false ]] && { [[ $force == true ]] || ! is_prepared "$name"; }; then
  "${corpus[@]}" >/dev/null  # reads all of it, before anything is removed
  force=true  # what an earlier preparation left may be of other text
fi
begin_preparation "$name" "$force" text raw bpe
run "${corpus[@]}" --destination "data/$name"
run "$python" -m "fairseq_powernorm.corpora.${learn[0]}" --text "data/$name/text" --destination "data/$name/bpe" \
  --languages "$source,$target" "${learn[@]:1}"
binarize "$name" "$source" "$target"

if [[ $tokenizer == moses ]]; then
  texts="raw: data/$name/raw, tokenized: data/$name/text, retokenize: false"
  protocols="protocol: tokenized$suffix, further: [detokenized$suffix]"
elif [[ $subwords == sentencepiece ]]; then
  texts="raw: data/$name/raw" protocols="protocol: detokenized$suffix"
else
  texts="raw: data/$name/text" protocols="protocol: tokenized$suffix"
fi
printf '%s\n' "for a recipe:" "  recipe: {$texts, binarized: data-bin/$name, source: $source, target: $target}" \
  "  score: {$protocols}" "  generate: {remove-bpe: $remove_bpe}" >&2
