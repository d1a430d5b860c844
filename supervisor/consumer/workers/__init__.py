"""The consumer's side of its workers: links, outcomes, choice of the next worker."""
