"""Choosing and changing the frequency bias of a state space model: how its layers start, and what they become."""
