"""How good a network is: protocols, figures and their chance, time, peers, folds, architectures compared."""
