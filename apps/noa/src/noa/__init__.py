"""Neural operator agents: a rollout surrogate of parameterised dynamics."""
