"""Choose and change the frequency bias of a state space model: initialization, scaling, weighting and spectrum matching of its layers."""
