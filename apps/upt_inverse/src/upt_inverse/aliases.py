"""Other accepted names of keys."""

from nops_train import Alias

ALIASES: tuple[Alias, ...] = ()
