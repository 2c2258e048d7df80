#!/usr/bin/env bash
# Prepares text for language models: the text (checked by MD5 where it is a known one), fairseq's binary form.
#
#   scripts/prepare_language_model.sh --corpus ptb|wikitext2|wikitext103|text [--name NAME] [--from DIR] [--force]
#       [--dry-run]
#
#   --corpus NAME  Penn Treebank, WikiText-2, WikiText-103, or text of one's own
#   --name NAME    what to call it: the folder below data/ and data-bin/ (default: the corpus's name)
#   --from DIR     take the text from DIR instead of downloading it: ptb.SPLIT.txt, wiki.SPLIT.tokens or, of one's own,
#                  SPLIT.txt, for train, valid and test, plain or .gz; or WikiText's .zip
#   --force        make it again where it exists
#   --dry-run      print the commands and do nothing
#
# Text is taken as it is: words are what spaces separate, a line ends with one token of its own, <unk> is the unknown
# word, and the dictionary is the training text's. Output: data/NAME/raw (text), data-bin/NAME.

# shellcheck source=scripts/common.sh disable=SC2154  # take_options sets the options
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

take_options corpus= name= from= -- "$@"
[[ $corpus == @(ptb|wikitext2|wikitext103|text) ]] ||
  fail "--corpus takes ptb, wikitext2, wikitext103 or text, got '$corpus'; see --help"
[[ $corpus != text || -n $name ]] || fail "--corpus text needs a --name; see --help"
name=${name:-$corpus}
require_name "$name"
require_package
begin_preparation "$name" "$force" raw
run "$python" -m fairseq_powernorm.corpora.language_model_text --corpus "$corpus" --destination "data/$name/raw" \
  ${from:+--from "$from"}
run "$python" -m fairseq_powernorm.corpora.binarize --text "data/$name/raw" --destination "data-bin/$name" \
  --languages txt --log "data/$name/preprocess.log"
[[ $dry_run == true ]] || summary "data-bin/$name is ready"
