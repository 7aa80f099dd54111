"""Physical parameters from observations, by a VAE whose decoder is a physics model; run by `phys-smpl`."""
