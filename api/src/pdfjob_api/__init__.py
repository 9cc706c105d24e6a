"""The vocabulary of pdfjob: resources, phases, error codes, labels, object keys, runner contract."""
