#!/usr/bin/env bash
# Makes the demo's data: a generated German-English corpus, a joint sentencepiece BPE, fairseq's binary form.
#
#   scripts/prepare_demo.sh [--name NAME] [--pairs N] [--vocabulary N] [--seed N] [--force] [--dry-run]
#
#   --name NAME      folder below data/ and data-bin/ (default demo_de_en)
#   --pairs N        training pairs (default 50000); validation and test get 300 each
#   --vocabulary N   pieces of the joint BPE (default 1500)
#   --seed N         seed of the generated corpus (default 1)
#   --force          make it again where it exists
#   --dry-run        print the commands and do nothing
#
# Output: data/NAME/raw (text), data/NAME/bpe (pieces), data-bin/NAME.

# shellcheck source=scripts/common.sh disable=SC2154  # take_options sets the options
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

take_options name=demo_de_en pairs=50000 vocabulary=1500 seed=1 -- "$@"

require_name "$name"
require_package
begin_preparation "$name" "$force"
run "$python" -m fairseq_powernorm.corpora.demo.corpus --destination "data/$name/raw" \
  --train "$pairs" --valid 300 --test 300 --seed "$seed" --force
encode_and_binarize "$name" "$vocabulary"
