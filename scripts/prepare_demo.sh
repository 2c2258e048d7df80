#!/usr/bin/env bash
# Makes the demo's data: a generated German-English corpus, a joint sentencepiece BPE, fairseq's binary form.
#
#   scripts/prepare_demo.sh [--pairs N] [--vocabulary N] [--seed N] [--force]
#
#   --pairs N        training pairs (default 40000); validation and test get 300 each
#   --vocabulary N   pieces of the joint BPE (default 1500)
#   --seed N         seed of the generated corpus (default 1)
#   --force          make it again where it exists
#
# Output: data/demo_de_en/raw (text), data/demo_de_en/bpe (pieces), data-bin/demo_de_en.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

pairs=40000 vocabulary=1500 seed=1 force=false
while (($#)); do
  case $1 in
    --pairs) pairs=$(value_of "$@"); shift 2 ;;
    --vocabulary) vocabulary=$(value_of "$@"); shift 2 ;;
    --seed) seed=$(value_of "$@"); shift 2 ;;
    --force) force=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done

name=demo_de_en
if [[ $force == false && -f data-bin/$name/dict.en.txt ]]; then
  summary "data-bin/$name is there already"
  exit 0
fi
require_package
run "$python" -m fairseq_powernorm.corpora.synthetic --destination "data/$name/raw" \
  --train "$pairs" --valid 300 --test 300 --seed "$seed" --force
encode_and_binarize "$name" "$vocabulary" train,valid,test
summary "data-bin/$name is ready"
