#!/usr/bin/env bash
# Table 1 of the PowerNorm paper: LN, BN, PN-V and PN by one recipe over several seeds, from the archives to the scores,
# with the paper's figures beside. Runs what is missing; stopped or killed at any point, the same command continues.
#
#   scripts/reproduce_table1.sh --recipe NAME [--seeds LIST] [--norms LIST] [--gpus N] [--dry-run] [OPTION]...
#
#   --recipe NAME   iwslt14_de_en (one GPU, IWSLT14 De-En), wmt14_en_de_big (WMT14 En-De), wmt14_en_de (the base model),
#                   multi30k_de_en (real text, hours on two CPU cores)
#   --seeds LIST    seeds, separated by commas (default 1,2,3)
#   --norms LIST    norms, separated by commas (default layer,batch,pn-v,power)
#   --gpus N        CUDA devices of this machine to use; without it everything runs on the CPU
#   --dry-run       print every command of the whole reproduction and do nothing
#   OPTION          any other option of scripts/run_recipe.sh, such as --hardware gpu_fp16 or --from DIR
#
# Output: RUNS/RECIPE/table.md, .csv and .png.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ " $* " != *" --help "* && " $* " != *" -h "* ]] || show_help
options=("$@")
[[ " $* " == *" --seed"* ]] || options+=(--seeds "1,2,3")
[[ " $* " == *" --norm"* ]] || options+=(--norms "layer,batch,pn-v,power")
cd "$caller_folder"
POWERNORM_COMMAND=reproduce_table1.sh exec "$root/scripts/run_recipe.sh" "${options[@]}"
