"""Feeds: what another client's CSV gives to rows of the target, said by a file and executed without code of its own."""
