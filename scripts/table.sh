#!/usr/bin/env bash
# Makes the table of a recipe's finished runs: BLEU by norm, the difference to LayerNorm with sacreBLEU's paired
# bootstrap, seeds, updates, time; as Markdown and CSV, with a bar chart beside them.
#
#   scripts/table.sh --recipe NAME [--runs DIR] [--output PREFIX] [--command TEXT] [--override KEY=VALUE]...
#
#   --recipe NAME          the recipe, such as multi30k_de_en
#   --runs DIR             folder of all runs (default runs)
#   --output PREFIX        writes PREFIX.md, PREFIX.csv and PREFIX.png, replacing what is there (default RUNS/RECIPE/table)
#   --command TEXT         the command to name as the one that makes the table again (default: this one)
#   --override KEY=VALUE   a Hydra override, as the runs have it

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

recipe="" runs=$root/runs output="" command=$(reproducing table.sh "$@") overrides=()
while (($#)); do
  case $1 in
    --recipe) recipe=$(value_of "$@"); shift 2 ;;
    --runs) value=$(value_of "$@"); runs=$(from_caller "$value"); shift 2 ;;
    --output) value=$(value_of "$@"); output=$(from_caller "$value"); shift 2 ;;
    --command) command=$(value_of "$@"); shift 2 ;;
    --override) value=$(value_of "$@"); overrides+=(--override "$value"); shift 2 ;;
    --help | -h) show_help ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[[ -n $recipe ]] || fail "--recipe is missing; see --help"
output=${output:-$runs/$recipe/table}

require_package
run "$python" -m fairseq_powernorm.launch table --recipe "$recipe" --runs "$runs" "${overrides[@]}" \
  --output-prefix "$output" --command "$command"
run "$python" -m fairseq_powernorm.analysis.bar_chart --table "$output.csv" --output "$output.png" \
  --title "$recipe" --force
summary "wrote $output.md, $output.csv and $output.png"
