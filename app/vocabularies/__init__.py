"""Hot-word lists of clients, which DashScope stores for one account each."""
