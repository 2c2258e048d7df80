#!/usr/bin/env bash
# Training and validation loss of a recipe's runs by update, as CSV and as a chart; runs may still be under way.
#
#   scripts/curves.sh --recipe NAME [--runs DIR] [--output PREFIX]
#
#   --recipe NAME      the recipe, such as multi30k_de_en
#   --runs DIR         folder of all runs (default runs)
#   --output PREFIX    writes PREFIX.csv and PREFIX.png, replacing what is there (default RUNS/RECIPE/curves)

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" runs=$root/runs output=""
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
output=${output:-$runs/$recipe/curves}

require_package
run "$python" -m fairseq_powernorm.analysis.curves --runs "$runs/$recipe" --output-prefix "$output" \
  --title "$recipe" --force
summary "wrote $output.csv and $output.png"
