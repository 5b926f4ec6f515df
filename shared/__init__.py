"""What the three implementations share: data, specification, loops. Imports no framework and no Hydra."""
