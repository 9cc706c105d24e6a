"""The one exception that devcluster shows to people."""


class DevclusterError(Exception):
    """Something a person has to know or do: the message says what failed and what to do next."""
