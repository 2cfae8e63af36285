"""DashScope's own protocol under `/api/v1`, for programs that use the official SDKs with another base URL and key."""
