"""The search for the alpha and the beta that suit the data of a task: trials through Optuna, then the best ones again with fresh seeds."""
