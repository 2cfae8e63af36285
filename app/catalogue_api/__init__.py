"""The HTTP API of the catalogue: models, and regions with the state of the gateway's accounts."""
