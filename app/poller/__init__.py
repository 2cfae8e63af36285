"""The background loops that advance jobs against DashScope."""
