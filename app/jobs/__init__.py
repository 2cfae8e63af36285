"""The HTTP API of jobs. No SQL: `app.queue` has the statements."""
