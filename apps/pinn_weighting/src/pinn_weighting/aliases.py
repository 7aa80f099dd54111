from nops_train import Alias

ALIASES: tuple[Alias, ...] = ()
