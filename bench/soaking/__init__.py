"""Parts of the soak: fates and their prediction, a simulated node, an operator that is killed, and the verdict."""
