"""Small servers and a client that do something real; each is run with `python -m`."""
