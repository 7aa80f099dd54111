"""Every weighting of loss terms in physics-informed training, compared; run by `pinn-weighting`."""
