"""The data plane of pdfjob: processes one chunk of a document."""
