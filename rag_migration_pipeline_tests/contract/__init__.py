"""The contract suite: laws that every store passes, in every form that can run here."""
