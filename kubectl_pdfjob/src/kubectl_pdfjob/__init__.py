"""The kubectl plugin of pdfjob."""
