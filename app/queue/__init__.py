"""The queue: every statement that changes jobs, files and tasks, and the states that they go through."""
