"""Parts of the HTTP API that all routes share. They do not know the resources that the routes serve."""
