#!/usr/bin/env bash
# How a norm bears small batches: the same update, made of one pass or of many smaller ones (--update-freq), for several
# norms. The tokens of an update stay the recipe's; what changes is how many tokens a batch statistic is taken over. A
# table and a chart of BLEU by norm and tokens a pass come out. Interrupted, it continues with the same command.
#
#   scripts/batch_size_study.sh --recipe NAME [--passes LIST] [--norms LIST] [--seeds LIST] [--hardware NAME] [--gpus N]
#                               [--jobs N] [--runs DIR] [--output PREFIX] [--from DIR] [--override KEY=VALUE]...
#                               [--dry-run]
#
#   --recipe NAME          a file of configs/recipe; with multi30k_de_en or iwslt14_de_en an update has 4096 tokens
#   --passes LIST          passes that make an update, separated by commas (default 1,2,4,8: 1 x 4096 ... 8 x 512)
#   --norms LIST           files of configs/norm (default layer,batch,pn-v,power)
#   --runs DIR             folder of all runs (default runs/batch_sizes); those of 512 tokens a pass go to DIR/512
#   --output PREFIX        writes PREFIX.md, PREFIX.csv and PREFIX.png (default RUNS/RECIPE)
#   --seeds LIST, --hardware NAME, --gpus N, --jobs N, --from DIR, --override KEY=VALUE
#                          as in run_recipe.sh
#   --dry-run              print every command and do nothing

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" passes=1,2,4,8 norms=layer,batch,pn-v,power runs=$root/runs/batch_sizes output="" dry_run=false given=()
overrides=() words=("$@")
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --passes) passes=$(value_of "$@"); shift 2 ;;
    --norms) norms=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --from) value=$(value_of "$@"); given+=(--from "$(from_caller "$value")"); shift 2 ;;
    --override) value=$(value_of "$@"); overrides+=(--override "$value"); shift 2 ;;
    --seeds | --hardware | --gpus | --jobs) value=$(value_of "$@"); given+=("$1" "$value"); shift 2 ;;
    --dry-run) dry_run=true; shift ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
[[ $passes =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "--passes takes numbers above 0, separated by commas, got $passes"
output=${output:-$runs/$recipe}
IFS=, read -ra pass_list <<<"$passes"

require_package
update=$("$python" -m fairseq_powernorm.launch show --recipe "$recipe" --runs "$runs" "${overrides[@]}" \
  --key batch.tokens_per_update)
for number in "${pass_list[@]}"; do
  ((update % number == 0)) || fail "$number passes do not divide an update of $update tokens"
done
tables=()
for number in "${pass_list[@]}"; do
  tokens=$((update / number))
  words_of_one=(scripts/run_recipe.sh --recipe "$recipe" --norms "$norms" --runs "$runs/$tokens" "${given[@]}"
    "${overrides[@]}" --override "batch.tokens_per_device=$tokens")
  if [[ $dry_run == true ]]; then
    "${words_of_one[@]}" --dry-run
  else
    run "${words_of_one[@]}"
  fi
  tables+=("$tokens=$runs/$tokens/$recipe/table.csv")
done
run "$python" -m fairseq_powernorm.analysis.batch_sizes --output-prefix "$output" --title "$recipe" --force \
  --command "$(reproducing batch_size_study.sh "${words[@]}")" "${tables[@]}"
[[ $dry_run == true ]] || summary "wrote $output.md, $output.csv and $output.png"
