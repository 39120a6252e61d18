"""The benchmark of the defence: worlds, attacks, and what is measured on them."""
