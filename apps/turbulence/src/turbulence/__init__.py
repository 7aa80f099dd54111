"""Flow emulators with spectrum-aware losses and a plateau-driven loss schedule; run by `turbulence`."""
