"""From a recipe to its table: configuration, plan, stages, a run's folder, fairseq's commands as processes."""
