//! flynn-dev: what the scripts are too short for: images, test clusters, budgets.
