"""Files that clients send to the gateway, so that DashScope can fetch them."""
