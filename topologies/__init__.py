"""What exists in a run: a pure model of nodes, links and addresses; Mininet makes it real in a sandbox."""
